"""From a data file to one whose words are exchanged at random, and the record of what that promises."""
