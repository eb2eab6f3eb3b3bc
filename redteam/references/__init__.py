"""Reference models: trained like the target on rows chosen here, to tell what a row's score would be without it."""
