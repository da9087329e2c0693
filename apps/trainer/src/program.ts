/** @file The command line as a whole: subcommands, help, and how every command is started. */
import { Command, CommanderError, Option } from 'commander';

import { addBench } from './commands/bench.ts';
import { addCompletion } from './commands/completion.ts';
import { addConfig } from './commands/config.ts';
import { addData } from './commands/data.ts';
import { addDoctor } from './commands/doctor.ts';
import { addEval } from './commands/eval.ts';
import { addExperts } from './commands/experts.ts';
import { addGenerate } from './commands/generate.ts';
import { addInspect } from './commands/inspect.ts';
import { addPlot } from './commands/plot.ts';
import { addTokenizer } from './commands/tokenizer.ts';
import { addTrace } from './commands/trace.ts';
import { addTrain } from './commands/train.ts';
import { addUpcycle } from './commands/upcycle.ts';
import { exitCodeHelp, exitCodes } from './exit-codes.ts';
import type { CommandContext, Host, Work } from './host.ts';
import { reportError } from './terminal/report-error.ts';
import { createTerminal } from './terminal/terminal.ts';

/**
 * Starts a command's work with the context of this process. The work is loaded when it is asked for, so that help
 * and mistakes do not wait for TensorFlow.js.
 */
export type Start = <Flags>(load: () => Promise<Work<Flags>>) => (flags: Flags) => Promise<void>;

const programHelp = `
Examples:
  $ moebius train                                    train the demo: a small MoE on real text, about 3 minutes
  $ moebius train --data ./my-texts --minutes 30     your own text, for half an hour
  $ moebius generate runs/demo --prompt "The people"
  $ moebius inspect --recipe reference               sizes and costs before anything is built
  $ moebius doctor                                   which engine this machine has, and why

${exitCodeHelp}

NO_COLOR switches colours off; MOEBIUS_CACHE moves the per-user cache (default ~/.cache/moebius);
MOEBIUS_DISK_PATIENCE is how many seconds the last save of a run waits for room on a full disk (default 600).`;

/**
 * Runs a command line.
 *
 * @param parameters - without node and script
 * @param host - the process
 * @param version - what `--version` says
 * @returns the exit status
 */
export async function runProgram(
  parameters: readonly string[],
  host: Host,
  version: string,
): Promise<number> {
  const isJson = parameters.includes('--json');
  const context: CommandContext = { host, terminal: createTerminal(host, { json: isJson }) };
  let status: number = exitCodes.ok;
  const start: Start = (load) => async (flags) => {
    const work = await load();
    status = await work(flags, context);
  };
  try {
    await createProgram(host, version, start).parseAsync([...parameters], { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    return fail(error, context);
  }
}

/**
 * The command line as an object: its commands, flags and help, for those who list them.
 *
 * @param host - where its text goes
 * @param version - what `--version` says
 * @param start - starts a command's work
 */
export function createProgram(host: Pick<Host, 'stdout' | 'stderr'>, version: string, start: Start): Command {
  const program = new Command('moebius')
    .description('Train, examine and run Mixture-of-Experts language models.')
    .version(version)
    .addOption(new Option('--json', 'print JSON objects, one a line, instead of text'))
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => void host.stdout.write(text),
      writeErr: (text) => void host.stderr.write(text),
      getOutHelpWidth: () => 110,
      getErrHelpWidth: () => 110,
    })
    .showHelpAfterError('(add --help for what there is)')
    .addHelpText('after', programHelp)
    .exitOverride();
  addTrain(program, start);
  addEval(program, start);
  addGenerate(program, start);
  addInspect(program, start);
  addTrace(program, start);
  addPlot(program, start);
  addUpcycle(program, start);
  addExperts(program, start);
  addTokenizer(program, start);
  addData(program, start);
  addConfig(program, start);
  addCompletion(program, start);
  addDoctor(program, start);
  addBench(program, start);
  return program;
}

function fail(error: unknown, { terminal }: CommandContext): number {
  const report = reportError(error);
  terminal.json({ event: 'error', code: report.code, message: report.message, details: report.details });
  terminal.warn(`error: ${report.message}`);
  if (report.stack !== undefined) terminal.warn(report.stack);
  return report.status;
}
