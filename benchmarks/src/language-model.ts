/**
 * @file Claim: a whole training step, a forward pass, a prefill and greedy decoding of a Qwen3-MoE are faster here than
 * in Hugging Face transformers on the same cores, with the same features on both sides (RoPE, QK norm, GQA, auxiliary
 * loss, clipping, AdamW with decoupled decay).
 *
 * The two sides take turns, repetition by repetition, with half a second of rest before each; medians are compared. Run alone on the machine:
 * `node --import tsx --conditions=@moebius/source benchmarks/src/language-model.ts`
 */
import { generate } from '@moebius/model';
import { createEngine, type Engine } from '@moebius/tensor';

import { benchmarkArguments, milliseconds, times } from './arguments.ts';
import { createOwnModel, sizes, type OwnModel, type Size } from './language-models.ts';
import { interleave, markdownTable, takeBenchmarkLock, writeResult, type Spread } from './measure.ts';
import { peerPython, startPeer, type Peer } from './peer.ts';

const decodeTokens = { prompt: 16, count: 128 };
const prefillLength = 512;
const restMs = 500;
const implementations = ['eager', 'grouped_mm'] as const;

const { smoke, rounds, only, json } = benchmarkArguments();
const engine = await createEngine({ engine: 'native' });
if (smoke) await smokeRun();
else await fullRun(engine);

async function smokeRun(): Promise<void> {
  const own = createOwnModel(sizes.tiny);
  own.trainStep(sizes.tiny.batch, sizes.tiny.sequence);
  own.forwardPass(sizes.tiny.batch, sizes.tiny.sequence);
  await decodeSeconds(own, 8);
  own.dispose();
  console.log('language-model: smoke run finished');
}

async function fullRun(running: Engine): Promise<void> {
  const python = peerPython();
  if (python === undefined)
    throw new Error('peer: benchmarks/peers/venv must exist (see benchmarks/README.md)');
  const release = takeBenchmarkLock();
  const peer = startPeer(python);
  try {
    const versions = await peer.ask({ do: 'versions' });
    const data: Record<string, unknown> = {};
    const sections: string[] = [];
    for (const [key, size] of Object.entries(sizes)) {
      if (size.name === 'tiny' || (only !== undefined && only !== key)) continue;
      const result = await compare(size, peer);
      data[key] = result;
      sections.push(section(size, result));
      console.log(sections.at(-1));
    }
    const path = writeResult({
      topic: 'language-model',
      claim:
        'train ≥ 1.6×, prefill ≥ 1.3×, greedy decode b=1 ≥ 2× Hugging Face transformers (the faster of its eager and grouped_mm experts)',
      versions: {
        ...running.versions,
        torch: String(versions['torch']),
        transformers: String(versions['transformers']),
      },
      body: sections.join('\n\n'),
      data,
    });
    console.log(json ? JSON.stringify(data) : `written: ${path}`);
  } finally {
    await peer.close();
    release();
  }
}

type Work = 'train' | 'forward' | 'prefill' | 'decode';
type Comparison = Record<Work, Record<string, Spread>>;

async function compare(size: Size, peer: Peer): Promise<Comparison> {
  const own = createOwnModel(size);
  for (const experts of implementations) {
    const { parameters } = await peer.ask({ do: 'create', config: peerConfig(size), experts });
    checkSameModel(own, parameters);
  }
  const result: Partial<Comparison> = {};
  for (const work of ['train', 'forward', 'prefill', 'decode'] as const) {
    const measured = await interleave(contestants(work, { own, size, peer }), { rounds, restMs });
    result[work] = measured;
    const medians = Object.entries(measured).map(
      ([name, { median }]) => `${name} ${milliseconds(median)} ms`,
    );
    console.error(`${size.name} ${work}: ${medians.join(', ')}`);
  }
  own.dispose();
  return result as Comparison;
}

interface Scope {
  readonly own: OwnModel;
  readonly size: Size;
  readonly peer: Peer;
}

type Contestants = Record<string, () => Promise<number>>;

/** Ours and one of theirs per experts implementation, on the same work. */
function contestants(work: Work, { own, size, peer }: Scope): Contestants {
  const { batch, sequence } = size;
  const { prompt, count } = decodeTokens;
  const ours: Record<Work, () => number | Promise<number>> = {
    train: () => own.trainStep(batch, sequence),
    forward: () => own.forwardPass(batch, sequence),
    prefill: () => own.forwardPass(1, prefillLength),
    decode: () => decodeSeconds(own, count),
  };
  const theirs: Record<Work, Record<string, unknown>> = {
    train: { do: 'train', batch, sequence },
    forward: { do: 'forward', batch, sequence },
    prefill: { do: 'prefill', sequence: prefillLength },
    decode: { do: 'decode', prompt, tokens: count },
  };
  const result: Contestants = { moebius: async () => ours[work]() };
  let seed = 0;
  for (const experts of implementations) {
    result[`hf ${experts}`] = async () => {
      const { seconds } = await peer.ask({ ...theirs[work], experts, seed: seed++ });
      if (seconds === undefined) throw new Error('peer: the answer must carry seconds');
      return seconds;
    };
  }
  return result;
}

/** Seconds of `count` tokens after the first; the prompt's prefill is not counted, as in the peer. */
async function decodeSeconds(own: OwnModel, count: number): Promise<number> {
  const vocabulary = own.model.config.vocab_size;
  const prompt = Int32Array.from(
    { length: decodeTokens.prompt },
    (_, place) => (place * 97 + 13) % vocabulary,
  );
  let began = 0;
  for await (const { index } of generate(own.model, prompt, { maxNewTokens: count + 1, stopTokens: [] })) {
    if (index === 0) began = performance.now();
  }
  return (performance.now() - began) / 1000;
}

function peerConfig(size: Size): Record<string, unknown> {
  const { model_type: _, ...config } = size.config;
  return config;
}

function checkSameModel(own: OwnModel, parameters: number | undefined): void {
  const store = own.model.parameters;
  const ours = store
    .ids()
    .reduce((sum, id) => sum + store.shape(id).reduce((size, axis) => size * axis, 1), 0);
  if (ours !== parameters) throw new Error(`peer: must have our ${ours} parameters, has ${parameters}`);
}

function section(size: Size, result: Comparison): string {
  const rows = Object.entries(result).map(([work, spreads]) => {
    const ours = spreads['moebius'];
    const others = Object.entries(spreads).filter(([name]) => name !== 'moebius');
    const best = others.toSorted((a, b) => a[1].median - b[1].median)[0];
    if (ours === undefined || best === undefined) throw new Error(`${work}: must be measured on both sides`);
    const unit = work === 'decode' ? decodeTokens.count : 1;
    const shown = (spread: Spread): string =>
      `${milliseconds(spread.median / unit)} (${milliseconds(spread.minimum / unit)}–${milliseconds(spread.maximum / unit)})`;
    const eager = spreads['hf eager'];
    const grouped = spreads['hf grouped_mm'];
    return [
      work === 'decode'
        ? `decode b=1, per token (${(unit / ours.median).toFixed(0)} tok/s, HF ${(unit / best[1].median).toFixed(0)})`
        : work === 'prefill'
          ? `prefill ${prefillLength}`
          : work,
      shown(ours),
      eager === undefined ? '–' : shown(eager),
      grouped === undefined ? '–' : shown(grouped),
      eager === undefined ? '–' : times(eager.median / ours.median),
      times(best[1].median / ours.median),
    ];
  });
  return [
    `## ${size.name}; ${size.batch}×${size.sequence} tokens`,
    '',
    'Milliseconds, median (minimum–maximum) of interleaved repetitions.',
    '',
    markdownTable(
      ['work', 'Moebius', 'HF eager experts', 'HF grouped_mm experts', 'against eager', 'against the faster'],
      rows,
    ),
  ].join('\n');
}
