import { createSetupPorts } from '../setup/ports.ts';
import { setupEngine } from '../setup/setup-engine.ts';

/** Runs the command line (minimal for now). */
export async function runCli(argv: readonly string[]): Promise<number> {
  const wheel = argv[argv.indexOf('--wheel') + 1];
  const ports = createSetupPorts((line) => process.stderr.write(`${line}\n`));
  const report = await setupEngine({
    ports,
    wheel: argv.includes('--wheel') ? wheel : undefined,
    force: argv.includes('--force'),
  });
  process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  return 0;
}
