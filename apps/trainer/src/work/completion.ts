/** @file `moebius completion`: a script with which a shell completes commands, flags and their values. */
import type { Command } from 'commander';

import { bashScript } from '../completion/bash-script.ts';
import { describeCommands } from '../completion/command-shape.ts';
import type { CommandShape } from '../completion/command-shape.ts';
import { fishScript } from '../completion/fish-script.ts';
import { zshScript } from '../completion/zsh-script.ts';
import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';

/** A shell that has a script. */
export type ShellName = 'bash' | 'zsh' | 'fish';

const scripts: { readonly [shell in ShellName]: (commands: readonly CommandShape[]) => string } = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/** What is asked for. */
export interface CompletionRequest {
  readonly shell: ShellName;
  /** The command line to complete. */
  readonly program: Command;
}

/** Prints the script. */
export async function completion(
  { shell, program }: CompletionRequest,
  { host, terminal }: CommandContext,
): Promise<number> {
  const script = scripts[shell](describeCommands(program));
  if (terminal.isJson) terminal.json({ event: 'completion', shell, script });
  else host.stdout.write(script);
  return exitCodes.ok;
}
