/**
 * A run that is killed with SIGKILL before each kind of call that changes its folder, in the middle of writes too, and
 * resumed each time, ends with the bytes of a run that nobody touched.
 */
import { readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { beforeAll, expect, it } from 'vitest';

import { buildCli, makeProject } from './built-cli.ts';
import { expectWhole, live, writeConfig } from './life.ts';
import type { Life } from './life.ts';
import { resultsOf } from './run-results.ts';

const preload = pathToFileURL(join(import.meta.dirname, 'kill-at-call.mjs')).href;
const insideCheckpoint = 'half writeSync run/checkpoint/.state.safetensors.0.tmp';

let folder = '';
let config = '';
beforeAll(() => {
  buildCli();
  folder = makeProject();
  config = writeConfig(folder, 'calls', 12);
}, 400_000);

function watched(output: string, order: { readonly log: string } | { readonly at: string }): Promise<Life> {
  const env = {
    NODE_OPTIONS: `--import ${preload}`,
    MOEBIUS_TEST_KILL: JSON.stringify({ folder: output, ...order }),
  };
  return live(output, config, { engine: 'wasm', env });
}

/** The calls of a life that nobody kills; of the model's small files those of one. */
async function callsOf(output: string): Promise<string[]> {
  const log = join(folder, 'calls.log');
  rmSync(log, { force: true });
  expectWhole(await watched(output, { log }));
  const calls = new Set(readFileSync(log, 'utf8').trimEnd().split('\n'));
  const small = /\/(generation_config|tokenizer|tokenizer_config)\.json$/;
  // Before a file is closed the disk is as it was after the call before; only who made the folder, and left nothing in
  // it, removes it.
  const isOfInterest = (call: string): boolean =>
    !small.test(call) && !call.startsWith('closeSync') && call !== 'rmdirSync run';
  return [...calls].filter(isOfInterest);
}

async function killAt(output: string, at: string): Promise<void> {
  const { signal, error } = await watched(output, { at });
  expect([at, signal, error]).toEqual([at, 'SIGKILL', expect.any(String)]);
}

it('ends like one that was not killed, and leaves nothing lying around', async () => {
  const [whole, killed] = [join(folder, 'whole'), join(folder, 'killed')];
  const calls = await callsOf(whole);
  expect(calls).toContain(insideCheckpoint);
  for (const at of calls) {
    // Over a model that is there another way is taken, see below.
    rmSync(join(killed, 'model'), { recursive: true, force: true });
    await killAt(killed, at);
  }
  expectWhole(await live(killed, config, { engine: 'wasm' }));
  expect(resultsOf(killed)).toEqual(resultsOf(whole));

  // What a run does after another that was killed while it saved, and over a model that is there.
  await killAt(killed, insideCheckpoint);
  const later = (await callsOf(killed)).filter((call) => !calls.includes(call));
  expect(later.length).toBeGreaterThan(5);
  for (const at of later) {
    await killAt(killed, insideCheckpoint);
    await killAt(killed, at);
  }
  expectWhole(await live(killed, config, { engine: 'wasm' }));
  expect(resultsOf(killed)).toEqual(resultsOf(whole));
  expect(readdirSync(killed).toSorted()).toEqual(['checkpoint', 'metrics.jsonl', 'model', 'run.json']);
}, 900_000);
