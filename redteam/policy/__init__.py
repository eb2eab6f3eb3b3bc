"""What is allowed: limits and waivers, the judge that compares them with a report, and reports with each other."""
