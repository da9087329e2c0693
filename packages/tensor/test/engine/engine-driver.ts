/**
 * @file Starts engines in a process of its own: a JSON list of createEngine options in the first parameter, one JSON line of
 * results out. Bundled by the tests.
 */
import { readdirSync } from 'node:fs';

import { isMoebiusError } from '@moebius/core';
import * as tf from '@tensorflow/tfjs';

import { type EngineOptions, createEngine, currentEngine } from '../../src/engine/create-engine.ts';

const orders = JSON.parse(process.argv[2] ?? '[]') as EngineOptions[];
const results: unknown[] = [];
const messages: string[] = [];
for (const order of orders) {
  try {
    const both = [order, order].map((options) =>
      createEngine({ ...options, onMessage: (line) => messages.push(line) }),
    );
    const [engine, again] = await Promise.all(both);
    const product = tf.tidy(() => [
      ...tf
        .matMul(
          [
            [1, 2],
            [3, 4],
          ],
          [[5], [6]],
        )
        .dataSync(),
    ]);
    results.push({ engine, product, same: engine === again && engine === (await currentEngine()) });
  } catch (error) {
    results.push({
      error: error instanceof Error ? error.message : String(error),
      known: isMoebiusError(error, 'engine'),
    });
  }
}
const threads = readdirSync('/proc/self/task').length;
process.stdout.write(`${JSON.stringify({ results, messages, threads })}\n`);
