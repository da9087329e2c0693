/** @file Before the tests: the native engine of exactly these C++ sources. Never fatal; tests that need it say so. */
import { setupEngine } from '../../src/setup/setup-engine.ts';
import { createSetupPorts } from '../../src/setup/ports.ts';

export async function setup(): Promise<void> {
  const ports = createSetupPorts((line) => process.stderr.write(`engine: ${line}\n`));
  try {
    const report = await setupEngine({ ports });
    if (!report.fused) process.stderr.write(`engine: no fused kernels: ${report.fusedProblem}\n`);
  } catch (error) {
    process.stderr.write(`engine: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}
