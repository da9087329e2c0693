/** @file `--tokenizer` and `--plugin`: what is needed beside a folder to open its model. */
import type { Command } from 'commander';

import { collect } from './flags.ts';

/** Flags of every command that opens a model. */
export interface ModelFlags {
  /** A tokenizer.json or its folder. */
  readonly tokenizer?: string;
  /** Packages or paths, loaded before the model is opened. */
  readonly plugin?: readonly string[];
}

/** Adds `--tokenizer` and `--plugin`. */
export function addModelFlags(command: Command): Command {
  return command
    .option('--tokenizer <path>', 'tokenizer.json, when it is not in the folder')
    .option(
      '--plugin <module>',
      'package or ./path with a router or expert kind that the model names; runs its code',
      collect,
    );
}
