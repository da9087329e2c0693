/**
 * @file What capacity costs: the shape of Table 1 of Capacity-Aware Inference (2503.05066) on models trained here. Four keys and four
 * methods over five capacity factors, with paired intervals, and each of the paper's claims held against them.
 *
 * Study models are trained when they are not there, three to five minutes each: the recipe as it is (its balance loss is so weak that
 * experts die), and with ten times that loss (skewed, all alive). The larger one
 * is given: `npx moebius train --recipe reference` (about an hour), then `--model runs/reference/model`.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/capacity-study.ts --model runs/reference/model` (needs `npm run build`;
 * goes on where it was stopped; counts, no timings)
 */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { runAsync } from '@moebius/core';
import { loadModel, type DecoderModel } from '@moebius/model';
import { parseCapacityConfig } from '@moebius/routing';
import { createLatencyModel, type LatencyModel } from '@moebius/routing/latency';
import { createEngine, disposeTree, readHostSync } from '@moebius/tensor';
import {
  capacityGrid,
  evaluateCapacity,
  packDocuments,
  readTextSource,
  readTokenizer,
  splitDocuments,
  type CapacityMeasurement,
  type CapacitySetting,
  type TextDocument,
  type TokenShard,
} from '@moebius/train';

import type { ModelStudy, StudiedSetting } from './capacity-study-groups.ts';
import { describeStudy } from './capacity-study-report.ts';
import { writeResult } from './measure.ts';

const { values: flags } = parseArgs({
  options: {
    smoke: { type: 'boolean', default: false },
    model: { type: 'string', multiple: true, default: [] },
    out: { type: 'string', default: 'runs/capacity-study' },
    tokens: { type: 'string', default: '65536' },
  },
});
const { smoke } = flags;
const gammas = smoke ? [1] : [2, 1.5, 1.25, 1, 0.75];
const keys = smoke ? ['score', 'order'] : ['score', 'random', 'order', 'reverse'];
const seeds = smoke ? [1] : [1, 2, 3];
const tokensOfBatch = 2048;
const tokens = smoke ? 512 : Number(flags.tokens);
const devices = 4;
const out = smoke ? mkdtempSync(join(tmpdir(), 'moebius-capacity-')) : resolve(flags.out);
const cli = new URL('../../apps/trainer/dist/cli.js', import.meta.url).pathname;

const engine = await createEngine({ engine: 'native' });
const cacheFolder = join(process.env['MOEBIUS_CACHE'] ?? join(process.env['HOME'] ?? '.', '.cache/moebius'));
const documents = await readTextSource({ corpus: 'sotu' }, { cacheFolder });
const { heldOut } = splitDocuments(documents, { heldOutFraction: 0.1, seed: 0 });
const studies: ModelStudy[] = [];
for (const group of smoke ? (['study'] as const) : (['study', 'milder'] as const)) {
  for (const seed of seeds) {
    const folder = join(out, group === 'study' ? `seed-${seed}` : `milder-${seed}`);
    trainStudyModel(folder, seed, group === 'study' ? [] : ['losses.loadBalance=0.001']);
    studies.push(await study({ name: `${group} ${seed}`, group, folder: join(folder, 'model') }, heldOut));
  }
}
for (const folder of flags.model) {
  studies.push(await study({ name: folder, group: 'reference', folder: resolve(folder) }, heldOut));
}
const body = describeStudy(studies, { gammas, keys, tokens, devices });
if (smoke) {
  rmSync(out, { recursive: true });
  console.log(`capacity-study: smoke run finished, ${studies[0]?.settings.length} settings`);
} else {
  const path = writeResult({
    topic: 'capacity-study',
    claim:
      'what a capped load costs in held-out loss, by key and by method, and which claims of 2503.05066 hold on small models',
    versions: engine.versions,
    body,
    data: studies.map(({ settings, ...rest }) => ({
      ...rest,
      settings: settings.map(({ documents: _documents, ...setting }) => setting),
    })),
  });
  console.log(`${body}\nwritten: ${path}`);
}

/** Trains a study model unless it is there. */
function trainStudyModel(folder: string, seed: number, changes: readonly string[]): void {
  if (existsSync(join(folder, 'model', 'config.json'))) return;
  const shape = smoke ? ['model.num_hidden_layers=1', 'model.hidden_size=48', 'model.head_dim=8'] : [];
  const settings = ['data.heldOutFraction=0.1', 'checkpoint.everySteps=100000', ...changes, ...shape];
  const run = ['train', '--recipe', 'study', '--seed', String(seed), '--steps', smoke ? '3' : '1500'];
  const last = smoke ? ['--set', 'evaluation.finalTokens=256', '--batch', '2', '--sequence', '32'] : [];
  execFileSync(
    process.execPath,
    [
      cli,
      ...run,
      '--out',
      folder,
      '--overwrite',
      '--no-sample',
      '--json',
      ...settings.flatMap((text) => ['--set', text]),
      ...last,
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
}

interface StudiedModel {
  readonly name: string;
  readonly group: ModelStudy['group'];
  readonly folder: string;
}

async function study(
  { name, group, folder }: StudiedModel,
  text: readonly TextDocument[],
): Promise<ModelStudy> {
  const model = await loadModel(folder);
  const shard = packDocuments(text, await readTokenizer(folder));
  const { num_experts: experts, num_experts_per_tok: topK, num_hidden_layers: layers } = model.config;
  const length = smoke
    ? 32
    : Math.min(group === 'reference' ? 256 : 128, model.config.max_position_embeddings);
  const rows = { length, sequences: smoke ? 4 : tokensOfBatch / length };
  const log = join(out, `${group}-${name.replaceAll(/[^a-z0-9]+/giu, '-')}-${tokens}.jsonl`);
  const wanted = settingsOf({ experts, topK });
  const known = readLog(log);
  const missing = wanted.filter((setting) => !known.has(setting.name));
  if (missing.length > 0 || !known.has('dropless')) {
    mkdirSync(out, { recursive: true });
    await evaluateCapacity(model, shard, {
      settings: missing,
      ...rows,
      maximumTokens: tokens,
      latency: unitLatency(experts, devices),
      onMeasured: (measured) => {
        if (!known.has(measured.name)) appendFileSync(log, `${JSON.stringify(summarise(measured))}\n`);
        known.set(measured.name, summarise(measured));
        console.error(`${name}: ${measured.name} ${measured.difference.difference.toFixed(4)}`);
      },
    });
  }
  const settings = ['dropless', ...wanted.map((setting) => setting.name)].flatMap(
    (setting) => known.get(setting) ?? [],
  );
  const result = {
    name: group === 'reference' ? 'reference' : name,
    group,
    experts,
    topK,
    layers,
    settings,
    byDevices: await remember(`${log}.devices`, () => studyDevices(model, shard, { experts, topK, ...rows })),
    sortedScores: await sortScores(model, shard, rows),
  };
  model.dispose();
  return result;
}

/** The grid of the tables, then the sweeps of single claims. */
function settingsOf({ experts, topK }: { experts: number; topK: number }): CapacitySetting[] {
  const sizes = { experts, topK, devices };
  const grid = capacityGrid({ gammas, keys, ...sizes });
  const methods = capacityGrid({
    gammas,
    methods: ['expanded', 'device', 'reroute', 'expert-drop'],
    ...sizes,
  });
  if (smoke) return [...grid, ...methods];
  const far = capacityGrid({ gammas: [3, 0.5, 0.25, 0], ...sizes });
  const base = { method: 'drop', gamma: 1, scope: 'rank', placement: { devices } };
  const more: Record<string, object> = {
    'over-selection 2k 1': { expand: { kind: 'top-m', m: 2 * topK } },
    'over-selection 3k 1': { expand: { kind: 'top-m', m: 3 * topK } },
    'over-selection all 1': { expand: { kind: 'top-m', m: experts } },
    'over-selection 2k 1, at most k': { expand: { kind: 'top-m', m: 2 * topK }, maxPerToken: topK },
    'over-selection 3k 1, at most k': { expand: { kind: 'top-m', m: 3 * topK }, maxPerToken: topK },
    'expanded 1, at most k': { expand: { kind: 'local' }, maxPerToken: topK },
    'expanded 1, primary first': { expand: { kind: 'local' }, priority: 'primary-first' },
    'token 1, best first': { priority: 'best-first' },
    'token 1, renormalised': { weights: 'kept' },
    'expanded 1, renormalised': { expand: { kind: 'local' }, weights: 'kept' },
  };
  const single = Object.entries(more).map(([name, settings]) => ({
    name,
    capacity: parseCapacityConfig({ ...base, ...settings }),
  }));
  return [...grid, ...methods, ...far, ...single];
}

/** A row takes one unit of time: times are largest loads. */
function unitLatency(experts: number, count: number): LatencyModel {
  return createLatencyModel({
    experts,
    placement: { devices: count, hostOf: null },
    times: { rows: [1], seconds: [1] },
  });
}

function summarise(measured: CapacityMeasurement): StudiedSetting {
  const { name, loss, difference, dropRatio, addedRatio, orphanRatio, peak, speedUp, layers } = measured;
  const caps = layers.map(({ utilisation }) => utilisation).filter((value) => value !== null);
  return {
    name,
    loss,
    difference: difference.difference,
    interval: difference.interval,
    dropRatio,
    addedRatio,
    orphanRatio,
    peak,
    speedUp,
    utilisation: caps.length === 0 ? null : caps.reduce((sum, value) => sum + value, 0) / caps.length,
    peaks: layers.map((layer) => layer.peakBefore),
    documents: measured.byDocument.map((document) => ({ loss: document.loss, tokens: document.tokens })),
  };
}

function readLog(file: string): Map<string, StudiedSetting> {
  if (!existsSync(file)) return new Map();
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('}'));
  return new Map(lines.map((line) => JSON.parse(line) as StudiedSetting).map((entry) => [entry.name, entry]));
}

/** What a file holds, made when it is not there. */
async function remember<T>(file: string, make: () => Promise<T>): Promise<T> {
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as T;
  const value = await make();
  writeFileSync(file, JSON.stringify(value));
  return value;
}

interface Sizes {
  readonly experts: number;
  readonly topK: number;
  readonly length: number;
  readonly sequences: number;
}

/** The same plans on more or fewer devices: how much of the straggler is left. */
async function studyDevices(
  model: DecoderModel,
  shard: TokenShard,
  { experts, topK, ...rows }: Sizes,
): Promise<ModelStudy['byDevices']> {
  const result: { devices: number; gamma: number; speedUp: number }[] = [];
  const settings = capacityGrid({
    gammas: gammas.filter((gamma) => gamma <= 1.5),
    scope: 'global',
    experts,
    topK,
  });
  for (const count of [16, 8, 4, 2, 1].filter((entry) => experts % entry === 0)) {
    const latency = unitLatency(experts, count);
    const maximumTokens = Math.min(tokens, 16_384);
    const measured = await evaluateCapacity(model, shard, { settings, ...rows, maximumTokens, latency });
    for (const { name, speedUp } of measured.settings) {
      result.push({ devices: count, gamma: Number(name.split(' ').at(-1)), speedUp: speedUp ?? NaN });
    }
  }
  return result;
}

/** Mean score of a token's best expert, its second, and so on: mean over layers. */
async function sortScores(
  model: DecoderModel,
  shard: TokenShard,
  { length, sequences }: { readonly length: number; readonly sequences: number },
): Promise<readonly number[]> {
  const ids = Int32Array.from(shard.tokens.subarray(0, length * sequences));
  const sums = new Float64Array(model.config.num_experts);
  let rows = 0;
  const output = await runAsync(
    model.forward(
      { ids, batch: sequences },
      {
        observe: (_layer, { scores }) => {
          const host = readHostSync(scores) as Float32Array;
          for (let at = 0; at < host.length; at += sums.length) {
            const sorted = host
              .slice(at, at + sums.length)
              .sort()
              .reverse();
            for (const [rank, value] of sorted.entries()) sums[rank] = (sums[rank] ?? 0) + value;
            rows += 1;
          }
        },
      },
    ),
  );
  disposeTree([output.hidden, output.saved]);
  return [...sums].map((sum) => sum / rows);
}
