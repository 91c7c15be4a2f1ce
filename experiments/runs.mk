# runs.mk - the jobs that README and results/README.md name: the main job on the default model, full sweeps, benchmarks, tables and
# figures. Included by the Makefile. All of them resume: repeating a finished one does nothing.
MODEL := model/default
WORLD := data/world
demo: install                                ## install, build, and run the main job on the default model -> results/demo
	@$(MAKE) --no-print-directory run-demo
run-demo: all
	@mkdir -p results/demo
	bin/score --model $(MODEL) --data $(WORLD) --tasks all --shots 2 --examples 30 --criteria all --out results/demo/scores.h5
	bin/aggregate --store results/demo/scores.h5 --out results/demo/aggregates.h5 --csv results/demo >results/demo/aggregate.txt
	bin/sweep --model $(MODEL) --data $(WORLD) --tasks all --wikitext $(WORLD)/wikitext/held-out.raw --limit 20 --mask none,random,static \
	  --scores results/demo/aggregates.h5 --criterion plainact,snip,l2_norm --units both --sparsity 0,20,40,60 --token-perplexity none --out results/demo/sweep.csv >results/demo/sweep.txt
	@echo; echo "predictors and contextual masks -> results/demo/contextual:"
	@experiments/contextual.sh small results/demo/scores.h5 results/demo/aggregates.h5 results/demo/contextual $(MODEL) $(WORLD) >results/demo/contextual.txt
	@$(MAKE) --no-print-directory plots PLOT_IN=results/demo FIGURES="$(MAIN_FIGURES)"
	@$(MAKE) --no-print-directory plots PLOT_IN=results/demo/contextual FIGURES="plots/contextual_scopes.gp plots/contextual_designs.gp"
	@echo; echo "mean accuracy of the seven tasks, heads and neurons pruned (results/demo/plots has the figures):"
	@bin/tables --table demo
	@echo; echo "masks that act from the end of the context on: static ones and contextual ones by two designs of predictors, accuracy and word perplexity:"
	@cat results/demo/contextual.txt
sweep-full: all                              ## every criterion and sparsity on the default model -> results/full (prints its time first)
	@mkdir -p results/full
	@echo "the time it takes, scoring and the sweep (its points are counted with scores of a few examples):"
	@bin/score $(SCORE_FULL) --out results/full/scores.h5 --estimate | grep -E '^estimate|complete'
	@test -e results/full/points.h5 || { bin/score --model $(MODEL) --data $(WORLD) --tasks copa --examples 30 --criteria all --out results/full/points.h5 && \
	  bin/aggregate --store results/full/points.h5 --out results/full/points.h5; } >/dev/null
	@bin/sweep $(SWEEP_FULL) --scores results/full/points.h5 --out results/full/sweep.csv --estimate 2>&1 | tail -n 1
	bin/score $(SCORE_FULL) --out results/full/scores.h5
	bin/aggregate --store results/full/scores.h5 --out results/full/aggregates.h5 --csv results/full >results/full/aggregate.txt
	bin/sweep $(SWEEP_FULL) --scores results/full/aggregates.h5 --out results/full/sweep.csv >results/full/sweep.txt
	@$(MAKE) --no-print-directory plots PLOT_IN=results/full FIGURES="$(MAIN_FIGURES)"
SCORE_FULL = --model $(MODEL) --data $(WORLD) --tasks all --examples 200 --criteria all
SWEEP_FULL = --model $(MODEL) --data $(WORLD) --tasks all --wikitext $(WORLD)/wikitext/held-out.raw --mask random,static --scope local,global --criterion all
contextual-full: all                         ## predictors and contextual masks of the default model -> results/contextual (447 points; prints its time first)
	@mkdir -p results/full
	bin/score $(SCORE_FULL) --out results/full/scores.h5
	bin/aggregate --store results/full/scores.h5 --out results/full/aggregates.h5 --csv results/full >results/full/aggregate.txt
	experiments/contextual.sh full results/full/scores.h5 results/full/aggregates.h5 results/contextual $(MODEL) $(WORLD)
	bin/bench --model $(MODEL) --mask none,static,contextual --scores results/full/aggregates.h5 --criterion plainact --scope global --sparsity 30,50,70 --prompt 64 --tokens 64 --rounds 9 \
	  --predictor results/contextual/work/shadow-0.h5,results/contextual/work/ahead-0.h5 --out results/contextual/work/bench.csv
	@cp results/contextual/work/bench.csv results/contextual
	@$(MAKE) --no-print-directory plots PLOT_IN=results/contextual FIGURES="$(CONTEXTUAL_FIGURES)"
contextual-ranks: all                        ## the same over ranks of predictors, and their time -> results/contextual (after contextual-full; prints its time first)
	experiments/ranks.sh results/full/scores.h5 results/full/aggregates.h5 results/contextual $(MODEL) $(WORLD)
	bin/bench --model $(MODEL) --mask static,contextual --scores results/full/aggregates.h5 --criterion plainact --sparsity 50 --refresh 0,1 --prompt 64 --tokens 64 --rounds 5 \
	  --predictor "$$(ls -v results/contextual/work/rank-*-0.h5 | paste -sd ,)" --out results/contextual/work/ranks_bench.csv
	@cp results/contextual/work/ranks_bench.csv results/contextual
	@$(MAKE) --no-print-directory plots PLOT_IN=results/contextual FIGURES=plots/contextual_rank.gp
batch: all                                   ## contextual masks of a batch, each sequence its own or their union: units left, perplexity, time -> results/batch (minutes)
	@mkdir -p results/batch/work
	bin/score --model $(MODEL) --data $(WORLD) --tasks all --shots 2 --examples 30 --criteria plainact --out results/batch/work/scores.h5
	@test -e results/batch/work/early.h5 || bin/train --store results/batch/work/scores.h5 --model $(MODEL) --criterion plainact --design shadow --target layer --hidden 256 --seed 0 \
	  --out results/batch/work/early.h5 >results/batch/work/train.txt
	@test -e results/batch/work/text.txt || { bin/world --out results/batch/work/world --seed 2 >results/batch/work/world.log 2>&1 && \
	  head -n 2000 results/batch/work/world/text/world.txt >results/batch/work/text.txt; }
	bin/bench $(BATCH) --units both --batch-masks own,union,auto --rounds 1 --out results/batch/bench.csv
	bin/bench $(BATCH) --units heads --batch-masks own,union --rounds 1 --out results/batch/bench.csv
	bin/bench $(BATCH) --units neurons --batch-masks own,union --rounds 1 --out results/batch/bench.csv
	bin/bench $(BATCH) --batch 4,16 --units both --own-lists --batch-masks own,auto --rounds 1 --out results/batch/bench.csv
	@$(MAKE) --no-print-directory plots PLOT_IN=results/batch FIGURES=plots/time_batch.gp
BATCH = --model $(MODEL) --wikitext results/batch/work/text.txt --mask none,contextual --predictor results/batch/work/early.h5 --criterion plainact --sparsity 30,50,70 \
  --batch 1,2,4,8,16 --sequences 128 --prompt 64 --tokens 32
bits: all                                    ## criterion x sparsity x bits of a weight on the default model: perplexity and time of the same weights -> results/bits (minutes)
	@mkdir -p results/bits/work
	bin/score --model $(MODEL) --data $(WORLD) --tasks all --shots 2 --examples 30 --criteria $(BITS_CRITERIA) --out results/bits/work/scores.h5
	bin/aggregate --store results/bits/work/scores.h5 --out results/bits/work/aggregates.h5 >results/bits/work/aggregate.txt
	for w in fp16 q8_0 q4_0; do \
	  bin/sweep $(BITS) --weights $$w --wikitext $(WORLD)/wikitext/held-out.raw --limit 40 --token-perplexity none --criterion $(BITS_CRITERIA) --out results/bits/sweep.csv || exit 1; done
	for c in $(subst $(comma), ,$(BITS_CRITERIA)); do \
	  bin/bench $(BITS) --weights fp16,q8_0,q4_0 --criterion $$c --prompt 64 --tokens 64 --rounds 31 --out results/bits/bench.csv || exit 1; done
	@$(MAKE) --no-print-directory plots PLOT_IN=results/bits FIGURES=plots/quality_bits.gp
comma := ,
BITS_CRITERIA = l2_norm,plainact,fisher
BITS = --model $(MODEL) --mask none,static --scores results/bits/work/aggregates.h5 --scope local --units both --sparsity 30,50,70
paper: all                                   ## every figure and table of the paper beside the published ones -> results/paper (prints its time first)
	@mkdir -p results/paper/work
	@test -e results/paper/work/calibration.txt || { bin/world --out results/paper/work/world --seed 1 >results/paper/work/world.log 2>&1 && \
	  head -n 400 results/paper/work/world/text/world.txt >results/paper/work/calibration.txt; }
	experiments/paper.sh --model $(MODEL) --data $(WORLD) --wikitext $(WORLD)/wikitext/held-out.raw --calibrate results/paper/work/calibration.txt \
	  --out results/paper --size $(SIZE)
## SIZE: of paper and smollm2: small (under an hour on 2 cores for the default model), medium (smollm2, as committed) or full (as published)
SIZE ?= small
smollm2: all                                 ## the same on SmolLM2-135M, a pretrained model, with the real tasks of DATA -> results/smollm2 (fetches 92 MB; prints its time first)
	@test -d "$(DATA)" || { echo "DATA=DIR: a folder of the real tasks and WikiText-2, such as data/download.sh DIR makes" >&2; exit 2; }
	PYTHON=$(PYTHON) experiments/smollm2.sh --data $(DATA) --wikitext $(DATA)/wikitext2/wiki.valid.raw --out results/smollm2 --size $(SIZE)
## DATA: folder of the real task files and WikiText-2 for smollm2
DATA ?=
latency: all                                 ## the published settings of times, on GPUs -> results/latency, with figures
	experiments/latency.sh results/latency
	@$(MAKE) --no-print-directory plots PLOT_IN=results/latency FIGURES="$(wildcard plots/time_*.gp)"
remake: all                                  ## make the default model and its data again from the seed, in build/remake (about an hour)
	bin/world --out build/remake/world --seed 1
	bin/pretrain --text build/remake/world/text --out build/remake/model --tokens 6000000 --answer-weight 10

dense: all                                   ## accuracy of the default model without a mask -> results/dense
	@mkdir -p results/dense
	bin/sweep --model $(MODEL) --data $(WORLD) --tasks all --mask none --out results/dense/default.csv

# Speed of scoring beside PyTorch, one example and four examples at a time; and of decoding. The peers need torch and transformers, and ctranslate2.
## PYTHON: a Python with torch; also numpy, h5py (oracle), transformers (bench, bench-decode), ctranslate2 (bench-decode)
PYTHON ?= python3
bench: all                                   ## tokens/s of scoring beside PyTorch, on OPT-125m's shape -> results/scoring
	@mkdir -p results/scoring
	bin/bench_score --peer $(PYTHON) --out results/scoring/bench_score.csv
	bin/bench_score --peer $(PYTHON) --batch 4 --batches 1 --out results/scoring/bench_score.csv
bench-train: all                             ## examples/s of training predictors beside PyTorch -> results/training
	@mkdir -p results/training
	bin/bench_train --peer $(PYTHON) --out results/training/bench_train.csv
	bin/bench_train --peer $(PYTHON) --shape 6x8x256x1024x2000x512 --out results/training/bench_train.csv
## TIMES: folder of bench-decode and bench-sweep: the CSV file and the figures
TIMES ?= results/bench
bench-decode: all                            ## time of a token beside PyTorch and CTranslate2, dense and under masks, on OPT-125m's shape
	@mkdir -p $(TIMES)
	bin/bench --shape opt-125m --weights fp32,fp16 --mask none,static,contextual --refresh 0,16,1 --peer $(PYTHON) --out $(TIMES)/bench.csv
bench-sweep: all                             ## time over sparsity, length and size -> TIMES, with figures
	@mkdir -p $(TIMES)
	bin/bench --shape opt-125m --mask none,static,contextual --refresh 1 --sparsity 0,10,20,30,40,50,60,70,80,90 --tokens 32 --rounds 6 --out $(TIMES)/bench.csv
	bin/bench --shape opt-125m --mask none,static,contextual --refresh 1 --prompt 128 --tokens 32,64,128,256 --rounds 4 --out $(TIMES)/bench.csv
	bin/bench --shape opt-125m,opt-350m,opt-1.3b --mask none,static,contextual --refresh 1 --tokens 32 --out $(TIMES)/bench.csv
	@$(MAKE) --no-print-directory plots PLOT_IN=$(TIMES)

# Tables and numbers of the documents follow from the CSV files of results/, as results/tables.json and results/numbers.csv say.
DOCUMENTS := README.md,results/README.md
tables: all                                  ## write the tables of the documents from the CSV files of results/
	bin/tables --document $(DOCUMENTS)
	bin/tables --numbers results/numbers.csv --check
tables-check: all                            ## do the tables and numbers of the documents follow from the CSV files of results/?
	bin/tables --document $(DOCUMENTS) --numbers results/numbers.csv --check

# Figures of a folder of results; plots/README.md lists what each reads.
## PLOT_IN: folder of the CSV files that plots reads
PLOT_IN  ?= results/demo
## PLOT_OUT: folder of the figures that plots draws
PLOT_OUT ?= $(PLOT_IN)/plots
PARTS    := $(addprefix plots/,common.gp criteria.gp contextual.gp times.gp paper.gp bars.gp)
FIGURES  := $(filter-out $(PARTS) plots/paper_%,$(wildcard plots/*.gp))
CONTEXTUAL_FIGURES := $(wildcard plots/contextual_*.gp) plots/predictability.gp plots/quality_time.gp
MAIN_FIGURES := $(filter-out $(CONTEXTUAL_FIGURES) plots/time_%,$(FIGURES))
plots:                                       ## draw the figures of PLOT_IN into PLOT_OUT
	$(Q)for f in $(FIGURES); do LC_ALL=C.UTF-8 gnuplot -e "src='$(PLOT_IN)'; dst='$(PLOT_OUT)'" $$f || exit 1; done

.PHONY: dense batch bits bench bench-train bench-decode bench-sweep demo run-demo sweep-full contextual-full contextual-ranks paper smollm2 latency remake plots tables tables-check
