/** @file `--out`, `--overwrite` and `--dtype`: where a rewritten model goes, and how it is stored. */
import { Option } from 'commander';
import type { Command } from 'commander';

/** Adds the flags of a command that writes a model. */
export function addOutputFlags(command: Command): Command {
  return command
    .requiredOption('--out <folder>', 'where the new model goes; the old one is kept')
    .option('--overwrite', 'replace the model that is there')
    .addOption(
      new Option('--dtype <type>', 'how weights are stored (default: as in the old model)').choices([
        'float32',
        'bfloat16',
        'float16',
      ]),
    );
}
