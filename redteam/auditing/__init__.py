"""The audit: its inputs, the run, the evidence grade, epsilon, breakdowns, the plan, the self-test."""
