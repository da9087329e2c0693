/**
 * @file The engine of this test process: `MOEBIUS_TEST_ENGINE` (native, wasm, cpu), else what `auto` finds.
 */
import { createEngine, type EngineName } from '@moebius/tensor';

/** Starts the engine; returns its name. */
export async function prepareEngine(): Promise<EngineName> {
  const wanted = process.env['MOEBIUS_TEST_ENGINE'] as EngineName | undefined;
  const engine = await createEngine(wanted === undefined ? {} : { engine: wanted });
  return engine.name;
}
