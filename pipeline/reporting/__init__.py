"""From results to the page: facts, statistics, tables, figures."""
