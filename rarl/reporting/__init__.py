"""Statistics, figures, claims and the report. `rarl.reporting.report.build_report` builds the page of one scale."""
