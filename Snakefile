# config -> datasets -> runs -> probes -> report, for one scale. `make help` lists the ways to start it.

from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/probe.smk"
include: "workflow/rules/report.smk"


# Names every file that DVC or git keeps: Snakemake does not rebuild a lost file that is not asked for.
rule all:
    default_target: True
    input:
        dataset_targets(),
        run_targets(SCALE.runs),
        probe_targets(SCALE.probes()),
        rules.make_report.output,


rule datasets:
    input:
        dataset_targets(),


rule train:
    input:
        run_targets(SCALE.runs),


rule probes:
    input:
        probe_targets(SCALE.probes()),


rule preview:
    input:
        rules.make_preview.output,


rule report:
    input:
        rules.make_report.output,
