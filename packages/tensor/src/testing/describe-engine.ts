/**
 * @file One suite on several engines: one process has one engine, so one test file starts one and runs the suite.
 */
import { beforeAll, describe } from 'vitest';

import { createEngine } from '../engine/create-engine.ts';
import type { Engine, EngineName } from '../engine/create-engine.ts';

/** What a suite is told. */
export interface EngineSuite {
  /** The engine's name. */
  readonly name: EngineName;
  /** The running engine; ask inside hooks and tests only. */
  engine(): Engine;
}

/**
 * Starts an engine before the suite's tests. Write one file per engine that calls this with the same suite:
 * `operations.native.test.ts`, `operations.wasm.test.ts`.
 *
 * @param name - which engine; a failure to start fails the suite
 * @param suite - defines the tests
 */
export function describeEngine(name: EngineName, suite: (context: EngineSuite) => void): void {
  describe(`on ${name}`, () => {
    let running: Engine | undefined;
    beforeAll(async () => {
      running = await createEngine({ engine: name });
    });
    suite({
      name,
      engine: () => {
        if (running === undefined) throw new Error('ask for the engine inside a hook or a test');
        return running;
      },
    });
  });
}
