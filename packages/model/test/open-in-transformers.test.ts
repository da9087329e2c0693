/**
 * A folder we save opens in Python with the same numbers. Needs a Python with transformers 4.57 or newer and torch:
 * `MOEBIUS_PYTHON` names it, else `python3` is tried; without one the tests are skipped and say so.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { runSync } from '@moebius/core';
import { disposeTree, readHostSync } from '@moebius/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { countParameters, generate, saveModel } from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyIds, tinyModel } from './tiny-model.ts';

await prepareEngine();

const python = process.env['MOEBIUS_PYTHON'] ?? 'python3';
const probe = spawnSync(python, ['-c', 'import torch, transformers'], { encoding: 'utf8' });
const reason =
  probe.status === 0 ? '' : ` (skipped: ${python} has no torch and transformers; set MOEBIUS_PYTHON)`;

interface PythonReport {
  readonly missing: string[];
  readonly unexpected: string[];
  readonly mismatched: string[];
  readonly parameters: number;
  readonly logits: number[][][];
  readonly greedy: number[];
}

function openInPython(folder: string, rows: number[][]): PythonReport {
  const script = fileURLToPath(new URL('./open_in_transformers.py', import.meta.url));
  const run = spawnSync(python, [script, folder, JSON.stringify(rows)], { encoding: 'utf8', maxBuffer: 1e8 });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as PythonReport;
}

describe.skipIf(reason !== '')(
  `a saved folder opened by Hugging Face transformers${reason}`,
  { timeout: 180_000 },
  () => {
    let root = '';
    beforeAll(() => {
      root = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-python-'));
    });
    afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

    it.each([
      { norm_topk_prob: true },
      {
        tie_word_embeddings: true,
        decoder_sparse_step: 2,
        mlp_only_layers: [],
        rope_theta: 5000,
        shards: 3000,
      },
      { model_type: 'qwen3', num_experts: 0, mlp_only_layers: [], tie_word_embeddings: true },
    ])('has the same parameters, logits and greedy tokens, %j', async ({ shards, ...fields }) => {
      // torch's grouped matmul wants rows of a multiple of 16 bytes
      const model = tinyModel({ moe_intermediate_size: 12, ...fields });
      saveModel(path.join(root, 'model'), model, shards === undefined ? {} : { maxShardBytes: shards });
      const ids = tinyIds(14);
      const report = openInPython(path.join(root, 'model'), [[...ids.subarray(0, 7)], [...ids.subarray(7)]]);
      expect([report.missing, report.unexpected, report.mismatched]).toEqual([[], [], []]);
      expect(report.parameters).toBe(countParameters(model.config));
      const { hidden } = runSync(model.forward({ ids, batch: 2 }));
      const logits = model.logits(hidden);
      const got = readHostSync(logits);
      const worst = Math.max(...report.logits.flat(2).map((value, at) => Math.abs(value - (got[at] ?? NaN))));
      expect(worst).toBeLessThanOrEqual(1e-4);
      const greedy: number[] = [];
      for await (const { token } of generate(model, [...ids.subarray(0, 7)], { maxNewTokens: 12 }))
        greedy.push(token);
      expect(greedy).toEqual(report.greedy);
      disposeTree([hidden, logits]);
      model.dispose();
    });
  },
);
