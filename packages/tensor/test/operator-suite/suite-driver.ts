/**
 * @file Runs TensorFlow.js's own operator suite on one of our engines, in a process of its own. Bundled by the test.
 *
 * Parameters: engine name, path of the bundled suite, path of the report to write.
 */
import { createRequire } from 'node:module';
import { writeFileSync } from 'node:fs';

import { createEngine } from '../../src/engine/create-engine.ts';

interface Expectation {
  readonly message: string;
}

interface SpecResult {
  readonly fullName: string;
  readonly status: 'passed' | 'failed' | 'excluded' | 'pending';
  readonly failedExpectations: readonly Expectation[];
}

interface JasmineEnvironment {
  configure(options: object): void;
  addReporter(reporter: { specDone(result: SpecResult): void; suiteDone(result: SpecResult): void }): void;
  execute(): Promise<unknown>;
}

const [name, suite, reportPath] = process.argv.slice(2) as [string, string, string];
const require = createRequire(import.meta.url);

const engine = await createEngine({ engine: name === 'wasm' ? 'wasm' : 'native' });
const jasmine = (require('jasmine-core') as { boot(): { getEnv(): JasmineEnvironment } }).boot();
const environment = jasmine.getEnv();
environment.configure({ random: false });

const passed: string[] = [];
const failed: { name: string; message: string }[] = [];
const note = (result: SpecResult): void => {
  if (result.status === 'passed') passed.push(result.fullName);
  if (result.status !== 'failed') return;
  failed.push({
    name: result.fullName,
    message: result.failedExpectations[0]?.message.split('\n').slice(0, 2).join(' ') ?? '',
  });
};
environment.addReporter({
  specDone: note,
  suiteDone: (result) =>
    result.failedExpectations.length > 0 ? note({ ...result, status: 'failed' }) : undefined,
});

// The suite's describe calls run while it loads; it must know its backend before that.
const global = globalThis as { moebiusTestBackend?: string };
global.moebiusTestBackend = engine.backendName;
require(suite);
await environment.execute();
writeFileSync(reportPath, JSON.stringify({ passed, failed }));
process.exit(0);
