/** @file What `moebius train --help` says below the flags. */
import { recipeHelp } from './recipes/registry.ts';
import { corpusHelp } from './text-help.ts';

/** Examples, recipes and texts. */
export const trainHelp: string = `
Examples:
  $ moebius train                                        the demo, about 3 minutes
  $ moebius train --recipe smoke                         everything once, in seconds
  $ moebius train --data ./my-texts --minutes 30 --out runs/mine
  $ moebius train --recipe demo --steps 500 --lr 0.002 --set model.num_experts=16
  $ moebius train --init-from runs/demo --data moby-dick --replay sotu --lr 0.0003 --steps 300
  $ moebius train --resume runs/demo                     after Ctrl-C
  $ moebius train --data ./my-texts --tensorboard        and: tensorboard --logdir runs
  $ moebius train --recipe smoke --json | jq -c 'select(.event == "step") | [.step, .loss]'

Recipes:
${recipeHelp}

Texts that come with Moebius:
${corpusHelp}

Ctrl-C ends the step, saves, and says how to resume; a second one stops at once (status 130).
A recipe never writes over a run: its output is runs/<name>, then runs/<name>-2, and so on.
\`moebius inspect --recipe <name>\` shows what a recipe costs; --set takes every name in run.json.`;
