/** @file `--engine` and `--threads`. */
import type { EngineName } from '@moebius/tensor';
import { InvalidArgumentError } from 'commander';
import type { Command } from 'commander';

import { wholeNumber } from './flags.ts';

/** Engine flags. */
export interface EngineFlags {
  /** Engine. */
  readonly engine?: EngineName | 'auto';
  /** Threads inside one operation. */
  readonly threads?: number;
}

/** Names that `--engine` takes. */
export const engineChoices: readonly (EngineName | 'auto')[] = ['auto', 'native', 'wasm', 'cpu'];

/** Adds `--engine` and `--threads`. */
export function addEngineFlags(command: Command): Command {
  return command
    .option('--engine <name>', 'auto, native, wasm or cpu (slow)', parseEngine)
    .option('--threads <count>', 'threads inside one operation (native; default: all cores)', wholeNumber(1));
}

function parseEngine(text: string): EngineName | 'auto' {
  const name = engineChoices.find((known) => known === text);
  if (name !== undefined) return name;
  throw new InvalidArgumentError(`Must be one of ${engineChoices.join(', ')}.`);
}
