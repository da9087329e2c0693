/**
 * @file The claims of Capacity-Aware Inference, each held against what the study measured: confirmed, not confirmed, or not testable here.
 */
import type { DifferenceInterval } from '@moebius/train';

import { percent, withInterval } from './capacity-study-groups.ts';
import type { StudyGroup, StudyPlan } from './capacity-study-groups.ts';
import { markdownTable } from './measure.ts';

interface Judgement {
  readonly verdict: 'confirmed' | 'not confirmed' | 'in part' | 'not testable here';
  readonly why: string;
}

interface Claim {
  readonly name: string;
  readonly text: string;
  judge(group: StudyGroup, plan: StudyPlan): Judgement;
}

/** A table: one line a claim, one column a group of models. */
export function judgeClaims(groups: readonly StudyGroup[], plan: StudyPlan): string {
  const judged = claims.map(({ name, text, judge }) => [
    `${name}: ${text}`,
    ...groups.map((group) => {
      const { verdict, why } = judge(group, plan);
      return `**${verdict}**: ${why}`;
    }),
  ]);
  const rest = untestable.map(([claim, why]) => [
    claim,
    ...groups.map((_, at) => (at === 0 ? `**not testable here**: ${why}` : '')),
  ]);
  return markdownTable(['claim', ...groups.map(({ title }) => title)], [...judged, ...rest]);
}

const claims: readonly Claim[] = [
  {
    name: 'A1',
    text: 'by score is the best key at every γ',
    judge: (group, { gammas, keys }) =>
      all(
        gammas.flatMap((gamma) =>
          keys.slice(1).map((key) => ({
            name: `${key} less score at γ = ${gamma}`,
            value: group.between(`token score ${gamma}`, `token ${key} ${gamma}`),
          })),
        ),
        isAbove,
      ),
  },
  {
    name: 'A1',
    text: 'its lead grows as γ falls',
    judge: (group, { gammas, keys }) =>
      growing(
        keys.slice(1).map((key) => ({
          name: key,
          values: gammas.map(
            (gamma) => group.between(`token score ${gamma}`, `token ${key} ${gamma}`)?.difference ?? NaN,
          ),
        })),
      ),
  },
  {
    name: 'A1',
    text: 'order and reverse are no better than random',
    judge: (group, { gammas, keys }) =>
      all(
        gammas.flatMap((gamma) =>
          keys
            .filter((key) => key === 'order' || key === 'reverse')
            .map((key) => ({
              name: `${key} less random at γ = ${gamma}`,
              value: group.between(`token random ${gamma}`, `token ${key} ${gamma}`),
            })),
        ),
        isNotBelow,
      ),
  },
  {
    name: 'A1, A2',
    text: 'by score at γ = 2 is the model without a capacity, nearly (under 0.01 nat)',
    judge: (group) => small(group.find('token score 2')),
  },
  {
    name: 'A2',
    text: 'the loss is flat above γ = 1.5 and bends below 1',
    judge: (group) => bends(group),
  },
  {
    name: 'A3',
    text: 'Expanded Drop is at least as good as Token Drop',
    judge: (group, { gammas }) =>
      all(
        gammas.map((gamma) => ({
          name: `token less expanded at γ = ${gamma}`,
          value: group.between(`expanded score ${gamma}`, `token score ${gamma}`),
        })),
        isNotBelow,
      ),
  },
  {
    name: 'A3',
    text: 'Token Drop beats Expert Drop (γ = 1.5), though Expert Drop removes fewest pairs',
    judge: (group) => {
      const [token, expert] = [group.find('token score 1.5'), group.find('expert-drop')];
      if ((expert?.dropRatio ?? 0) < 0.01) {
        const share = percent(expert?.dropRatio);
        return {
          verdict: 'not testable here',
          why: `the experts that Expert Drop skips are idle: it drops ${share} of pairs`,
        };
      }
      const value = group.between('token score 1.5', 'expert-drop');
      const { verdict, why } = all([{ name: 'Expert Drop less Token Drop', value }], isAbove);
      return {
        verdict,
        why: `${why}; they drop ${percent(expert?.dropRatio)} and ${percent(token?.dropRatio)} of pairs`,
      };
    },
  },
  {
    name: 'v1, v3',
    text: 'Expanded Drop replaces iterative reroute without loss',
    judge: (group, { gammas }) =>
      all(
        gammas.map((gamma) => ({
          name: `reroute less expanded at γ = ${gamma}`,
          value: group.between(`expanded score ${gamma}`, `reroute score ${gamma}`),
        })),
        isNotBelow,
      ),
  },
  {
    name: 'A4',
    text: 'the drop ratio is convex in γ, steep below 1',
    judge: (group) => convex(group),
  },
  {
    name: 'A5',
    text: 'more candidates use more of the slots',
    judge: (group) => {
      const names = ['token score 1', 'over-selection 2k 1', 'over-selection 3k 1', 'over-selection all 1'];
      const used = names.map((name) => group.find(name)?.utilisation ?? NaN);
      const rises = used.every((value, at) => at === 0 || value >= (used[at - 1] ?? NaN) - 1e-9);
      return {
        verdict: rises ? 'confirmed' : 'not confirmed',
        why: `${used.map(percent).join(', ')} for k, 2k, 3k, all`,
      };
    },
  },
  {
    name: 'A6',
    text: 'a limit of k experts a token does not help',
    judge: (group) =>
      all(
        ['over-selection 2k 1', 'over-selection 3k 1', 'expanded 1'].map((name) => ({
          name: `with less without, ${name}`,
          value: group.between(name === 'expanded 1' ? 'expanded score 1' : name, `${name}, at most k`),
        })),
        isNotBelow,
      ),
  },
  {
    name: 'A7',
    text: 'a cap on devices loses less than one on experts, at the same γ',
    judge: (group, { gammas }) =>
      all(
        gammas.map((gamma) => ({
          name: `token less device at γ = ${gamma}`,
          value: group.between(`device score ${gamma}`, `token score ${gamma}`),
        })),
        isNotBelow,
      ),
  },
  {
    name: 'A8',
    text: 'the more experts share a device, the less there is to gain',
    judge: (group, { gammas }) => {
      const gamma = gammas.find((value) => value === 1) ?? gammas[0] ?? NaN;
      const counts = [
        ...new Set(group.models.flatMap(({ byDevices }) => byDevices.map((entry) => entry.devices))),
      ];
      const means = counts.map((devices) => {
        const own = group.models.flatMap(({ byDevices }) =>
          byDevices.filter((entry) => entry.devices === devices && entry.gamma === gamma),
        );
        return own.reduce((sum, { speedUp }) => sum + speedUp, 0) / own.length;
      });
      const falls = means.every((value, at) => at === 0 || value <= (means[at - 1] ?? NaN) + 1e-9);
      const list = counts.map((devices, at) => `${devices}: ${(means[at] ?? NaN).toFixed(2)}×`).join(', ');
      return {
        verdict: falls ? 'confirmed' : 'not confirmed',
        why: `bound at γ = ${gamma} by devices: ${list}`,
      };
    },
  },
  {
    name: 'A10',
    text: 'scores behind rank k are a flat tail',
    judge: (group) => {
      const [first] = group.models;
      const k = first?.topK ?? 1;
      const ranks = (first?.sortedScores ?? []).map(
        (_, rank) =>
          group.models.reduce((sum, { sortedScores }) => sum + (sortedScores[rank] ?? NaN), 0) /
          group.models.length,
      );
      const [last = NaN, next = NaN, far = NaN] = [ranks[k - 1], ranks[k], ranks[2 * k - 1]];
      const flat = last - next > next - far;
      const list = ranks
        .slice(0, 2 * k + 1)
        .map((value) => value.toFixed(3))
        .join(' ');
      return { verdict: flat ? 'confirmed' : 'not confirmed', why: `mean score by rank: ${list} …` };
    },
  },
];

const untestable: readonly (readonly [string, string])[] = [
  [
    'a layer is 1.30× to 1.85× faster',
    'one process has no straggler; the bounds above say what ranks could gain',
  ],
  [
    'A9: dropping tokens of a redundant modality first harms least',
    'the models read text only; the rule itself is tested (token classes)',
  ],
  [
    'A11: upcycled models have lower peaks than those trained from scratch',
    'no upcycled model is among these',
  ],
  [
    'differences in benchmark accuracy',
    'these models are too small for the benchmarks; the loss is measured instead',
  ],
  [
    'local expansion costs no communication',
    'an invariant of the plan, tested: no expanded pair leaves its device; its time needs ranks',
  ],
];

interface Named {
  readonly name: string;
  readonly value: DifferenceInterval | undefined;
}

function isAbove({ interval }: DifferenceInterval): boolean {
  return (interval?.[0] ?? NaN) > 0;
}

function isNotBelow({ interval }: DifferenceInterval): boolean {
  return (interval?.[1] ?? NaN) >= 0;
}

/** Confirmed when every comparison holds; else the worst one is shown. */
function all(named: readonly Named[], holds: (value: DifferenceInterval) => boolean): Judgement {
  const known = named.filter(
    (entry): entry is Named & { value: DifferenceInterval } => entry.value !== undefined,
  );
  const failed = known.filter(({ value }) => !holds(value));
  const worst = (failed.length === 0 ? known : failed).toSorted(
    (a, b) => a.value.difference - b.value.difference,
  )[0];
  const shown = worst === undefined ? 'nothing measured' : `${worst.name}: ${withInterval(worst.value)}`;
  const count = `${known.length - failed.length} of ${known.length} comparisons`;
  const verdict =
    failed.length === 0 ? 'confirmed' : failed.length === known.length ? 'not confirmed' : 'in part';
  return { verdict, why: `${count}; the weakest is ${shown}` };
}

function growing(
  series: readonly { readonly name: string; readonly values: readonly number[] }[],
): Judgement {
  const grows = series.filter(({ values }) =>
    values.every((value, at) => at === 0 || value >= (values[at - 1] ?? NaN)),
  );
  const list = series
    .map(({ name, values }) => `${name} ${values.map((value) => (1000 * value).toFixed(0)).join(' ')}`)
    .join('; ');
  const verdict =
    grows.length === series.length ? 'confirmed' : grows.length === 0 ? 'not confirmed' : 'in part';
  return { verdict, why: `lead from the largest γ to the smallest: ${list}` };
}

function small(value: DifferenceLike | undefined): Judgement {
  const near = Math.abs(value?.interval?.[1] ?? NaN) < 0.01;
  return { verdict: near ? 'confirmed' : 'not confirmed', why: withInterval(value) };
}

type DifferenceLike = Pick<DifferenceInterval, 'difference' | 'interval'>;

/** Slope of the loss around 1 against that far above and below it. */
function bends(group: StudyGroup): Judgement {
  const at = (gamma: number): number => group.find(`token score ${gamma}`)?.difference ?? NaN;
  const flat = at(1.5) < 0.01;
  const steeper = at(0.5) - at(1) > 2 * (at(1) - at(1.5));
  const list = [3, 2, 1.5, 1, 0.75, 0.5, 0.25, 0]
    .map((gamma) => `${gamma}: ${(1000 * at(gamma)).toFixed(1)}`)
    .join(', ');
  const verdict = flat && steeper ? 'confirmed' : flat || steeper ? 'in part' : 'not confirmed';
  return {
    verdict,
    why: `${flat ? 'flat' : 'not flat'} above 1.5, ${steeper ? 'twice' : 'not twice'} as steep below 1; by γ ${list}`,
  };
}

function convex(group: StudyGroup): Judgement {
  const points = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3].map((gamma) => ({
    gamma,
    ratio: group.find(`token score ${gamma}`)?.dropRatio ?? NaN,
  }));
  const slopes = points.slice(1).map(({ gamma, ratio }, at) => {
    const before = points[at] ?? { gamma: 0, ratio: NaN };
    return (before.ratio - ratio) / (gamma - before.gamma);
  });
  const holds = slopes.every((slope, at) => at === 0 || slope <= (slopes[at - 1] ?? NaN) + 0.01);
  const list = points.map(({ gamma, ratio }) => `${gamma}: ${percent(ratio)}`).join(', ');
  return { verdict: holds ? 'confirmed' : 'not confirmed', why: `dropped by γ ${list}` };
}
