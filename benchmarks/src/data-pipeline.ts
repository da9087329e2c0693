/**
 * @file How fast data come: rows of packed shards beside what training takes, and what making the shards costs: cold (a fresh
 * tokenizer that has seen no word), warm (the same tokenizer again), and from the cache.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/data-pipeline.ts`
 */
import { createEngine } from '@moebius/tensor';
import {
  createBatchSampler,
  createTokenizer,
  createTrainer,
  defaultCacheFolder,
  packDocuments,
  prepareDataset,
  readTextSource,
} from '@moebius/train';
import type { TokenShard } from '@moebius/train';

import { benchmarkArguments } from './arguments.ts';
import { sizes } from './language-models.ts';
import { interleave, markdownTable, takeBenchmarkLock, writeResult } from './measure.ts';
import type { Repetition, Spread } from './measure.ts';

const { smoke, rounds } = benchmarkArguments();
const { config: model, batch: sequences, sequence: length } = smoke ? sizes.tiny : sizes.d256;
const { vocab_size: _vocabulary, ...trained } = model;
const cacheFolder = defaultCacheFolder();
const data = {
  training: { corpus: smoke ? 'moby-dick' : 'sotu' },
  heldOutFraction: 0.1,
  splitSeed: 0,
} as const;
const tokenizerConfig = { vocabularySize: smoke ? 1024 : 4096, minimumCount: 2 };

const release = smoke ? () => undefined : takeBenchmarkLock();
try {
  await measure();
} finally {
  release();
}

async function measure(): Promise<void> {
  const engine = await createEngine({ engine: 'native' });
  const prepare = (): Promise<{ training: TokenShard }> =>
    prepareDataset({ ...data, tokenizer: tokenizerConfig, cacheFolder });
  const { training, tokenizer } = await prepareDataset({ ...data, tokenizer: tokenizerConfig, cacheFolder });
  const texts = await readTextSource(data.training, { cacheFolder });
  const trainer = createTrainer(
    {
      model: trained,
      data,
      tokenizer: tokenizerConfig,
      batch: { sequences, length },
      duration: { steps: 1_000_000 },
      evaluation: { everySteps: null },
    },
    { clock: { nowMs: () => performance.now() }, cacheFolder },
  );
  const events = trainer.run();
  const spreads = await interleave(
    {
      train: async () => {
        for (;;) {
          const { value } = await events.next();
          if (value?.kind === 'step') return value.stepMs / 1000;
        }
      },
      sample: timed(() => sampleEpoch(training)),
      cold: timed(() => packDocuments(texts, createTokenizer(tokenizer.definition))),
      warm: timed(() => packDocuments(texts, tokenizer)),
      cached: timed(prepare),
    },
    { rounds, warmUp: smoke ? 0 : 2 },
  );
  await events.return();
  trainer.dispose();
  const all = packDocuments(texts, tokenizer);
  report(spreads, { training, all, versions: engine.versions });
}

function timed(action: () => unknown): Repetition {
  return async () => {
    const began = performance.now();
    await action();
    return (performance.now() - began) / 1000;
  };
}

/** Every row of an epoch, a step's rows at a time, in a sampler of its own: the epoch's order is drawn as well. */
function sampleEpoch(shard: TokenShard): void {
  const sampler = createBatchSampler(shard, { length, seed: 0 });
  for (let row = 0; row + sequences <= sampler.rowsPerEpoch; row += sequences) sampler.rows(row, sequences);
}

interface Measured {
  readonly training: TokenShard;
  /** All documents. */
  readonly all: TokenShard;
  readonly versions: Readonly<Record<string, string>>;
}

function report(spreads: Record<string, Spread>, { training, all, versions }: Measured): void {
  const rowsPerEpoch = Math.floor((training.tokens.length - 1) / length);
  const sampled = Math.floor(rowsPerEpoch / sequences) * sequences * length;
  const tokensOf: Record<string, number> = {
    train: sequences * length,
    sample: sampled,
    cold: all.tokens.length,
    warm: all.tokens.length,
    cached: all.tokens.length,
  };
  const names: Record<string, string> = {
    train: `training (${sequences}×${length} tokens a step)`,
    sample: 'rows of the sampler, a whole epoch',
    cold: 'tokenizing and packing, a tokenizer that has seen no word',
    warm: 'the same tokenizer again',
    cached: 'shards from the cache (reading and hashing the text included)',
  };
  const rates = Object.entries(spreads).map(([name, { median, minimum, maximum }]) => {
    const tokens = tokensOf[name] ?? 0;
    const tokensPerSecond = tokens / median;
    const base = (tokensOf['train'] ?? 0) / (spreads['train']?.median ?? NaN);
    return { name, tokens, median, minimum, maximum, tokensPerSecond, ofTraining: tokensPerSecond / base };
  });
  const table = markdownTable(
    ['work', 'tokens', 'seconds (median, range)', 'tokens/s', 'of training'],
    rates.map((rate) => [
      names[rate.name] ?? rate.name,
      rate.tokens,
      `${rate.median.toPrecision(3)} (${rate.minimum.toPrecision(3)} to ${rate.maximum.toPrecision(3)})`,
      Math.round(rate.tokensPerSecond),
      `${rate.ofTraining.toPrecision(3)} ×`,
    ]),
  );
  console.log(table);
  if (smoke) return;
  const megabytes = all.bytes.reduce((sum, bytes) => sum + bytes, 0) / 1e6;
  const body = `${table}\n\nMedians of ${rounds} rounds in turns, after two. The text: ${megabytes.toFixed(1)} MB, ${all.bytes.length} documents. Tokenizing happens once per text; every later run reads the shards.`;
  const claim = 'the data pipeline is at least 50 times as fast as training';
  console.log(`written: ${writeResult({ topic: 'data-pipeline', claim, versions, body, data: rates })}`);
}
