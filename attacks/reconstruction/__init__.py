"""From texts whose words were exchanged back to the words that were there."""
