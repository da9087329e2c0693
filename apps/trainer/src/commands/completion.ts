/** @file `moebius completion`: a script with which a shell completes commands, flags and their values. */
import { Argument } from 'commander';
import type { Command } from 'commander';

import type { Start } from '../program.ts';
import type { ShellName } from '../work/completion.ts';

const help = `
Examples:
  $ source <(moebius completion bash)                                  in this shell
  $ moebius completion bash > ~/.local/share/bash-completion/completions/moebius
  $ moebius completion zsh > ~/.zfunc/_moebius                         a folder of your fpath
  $ moebius completion fish > ~/.config/fish/completions/moebius.fish

Completes commands, flags, recipes, engines, the names of texts, files and folders. The script starts no program; make it
again after an update.`;

/** Adds `completion`. */
export function addCompletion(program: Command, start: Start): void {
  program
    .command('completion')
    .description('print a completion script for a shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(['bash', 'zsh', 'fish']))
    .addHelpText('after', help)
    .action((shell: ShellName) =>
      start(async () => (await import('../work/completion.ts')).completion)({ shell, program }),
    );
}
