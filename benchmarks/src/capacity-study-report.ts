/**
 * @file The tables of the capacity study. Differences are held-out loss less that of the same model without a capacity, nats per token.
 */
import { judgeClaims } from './capacity-study-claims.ts';
import { groupModels, percent, withInterval } from './capacity-study-groups.ts';
import type { ModelStudy, StudiedSetting, StudyGroup, StudyPlan } from './capacity-study-groups.ts';
import { markdownTable } from './measure.ts';

/** Markdown of the whole study. */
export function describeStudy(studies: readonly ModelStudy[], plan: StudyPlan): string {
  const groups = groupModels(studies);
  const { tokens, devices } = plan;
  return [
    `Loss under a capacity less the loss of the same model without one, in 1/1000 nat per token on ${tokens} held-out tokens of 23 documents (batches of 2,048, padding not routed), with the middle 95 % of 1,000 paired draws of documents. Lower is better, 0 is no harm. Every method caps on ${devices} devices of equal runs of tokens and experts (scope \`rank\`, ceiling, the router’s own weights); nothing is trained again.`,
    ...groups.flatMap((group) => describeGroup(group, plan)),
    '## Claims of the paper',
    'A comparison is held to the paired 95 % interval: *better* must lie wholly on its side; *at least as good*, *no better* and *does not help* hold unless the interval lies wholly on the other. Intervals say how other documents would vary for these very models, not how other models would.',
    judgeClaims(groups, plan),
  ].join('\n\n');
}

function describeGroup(group: StudyGroup, { gammas, keys }: StudyPlan): string[] {
  const dropless = group.models.map(({ settings }) => settings[0]);
  const losses = dropless.map((setting) => setting?.loss.toFixed(4)).join(', ');
  const peaks = group.models
    .map(({ name, settings }) => `${name}: ${settings[0]?.peaks.map((peak) => peak.toFixed(1)).join(' ')}`)
    .join('; ');
  const head = ['', ...gammas.map((gamma) => `γ = ${gamma}`)];
  const row = (title: string, name: (gamma: number) => string): string[] => [
    title,
    ...gammas.map((gamma) => withInterval(group.find(name(gamma)))),
  ];
  const methods = ['token', 'expanded', 'device', 'reroute'];
  const counts = methods.flatMap((method) =>
    gammas.map((gamma) => countsOf(`${method}, γ = ${gamma}`, group.find(`${method} score ${gamma}`))),
  );
  return [
    `## ${group.title}`,
    `Largest over mean load by layer, mean over batches, before any capacity: ${peaks}. Loss without a capacity: ${losses}.`,
    '**Token Drop by key**',
    markdownTable(
      head,
      keys.map((key) => row(key, (gamma) => `token ${key} ${gamma}`)),
    ),
    '**Methods, by score** (Expert Drop has no γ: ' +
      `${withInterval(group.find('expert-drop'))}, ${percent(group.find('expert-drop')?.dropRatio)} of pairs dropped)`,
    markdownTable(
      head,
      methods.map((method) => row(method, (gamma) => `${method} score ${gamma}`)),
    ),
    '*dropped*, *added*: share of the router’s pairs; *orphans*: tokens that lost every expert; *peak*: largest expert load over the mean; *bound*: largest device load without the capacity over that with it, the most that experts’ time can shrink.',
    markdownTable(['', 'dropped', 'added', 'orphans', 'peak', 'bound'], counts),
    ...sweeps(group),
  ];
}

function sweeps(group: StudyGroup): string[] {
  const names = (group.models[0]?.settings ?? []).map(({ name }) => name);
  const single = names.filter((name) => /, |^over|^token score (3|0\.5|0\.25|0)$/.test(name));
  if (single.length === 0) return [];
  const rows = single.map((name) => {
    const setting = group.find(name);
    const utilisation = setting?.utilisation;
    return [
      name,
      withInterval(setting),
      percent(setting?.dropRatio),
      percent(setting?.addedRatio),
      utilisation === null ? '' : percent(utilisation),
    ];
  });
  return ['**Single sweeps**', markdownTable(['', 'difference', 'dropped', 'added', 'slots used'], rows)];
}

function countsOf(title: string, setting: StudiedSetting | undefined): string[] {
  return [
    title,
    percent(setting?.dropRatio),
    percent(setting?.addedRatio),
    percent(setting?.orphanRatio),
    (setting?.peak ?? NaN).toFixed(2),
    `${(setting?.speedUp ?? NaN).toFixed(2)}×`,
  ];
}
