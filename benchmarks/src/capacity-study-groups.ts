/**
 * @file The models of the capacity study, those of one kind as one, and how their differences are written.
 */
import { differenceInLoss, type DifferenceInterval, type DocumentLoss } from '@moebius/train';

/** One model under one setting. */
export interface StudiedSetting {
  readonly name: string;
  readonly loss: number;
  readonly difference: number;
  readonly interval: readonly [number, number] | null;
  readonly dropRatio: number;
  readonly addedRatio: number;
  readonly orphanRatio: number;
  readonly peak: number;
  /** Largest load of a device, dropless over this. */
  readonly speedUp: number | null;
  readonly utilisation: number | null;
  /** Largest over mean load of the router's choice, by layer. */
  readonly peaks: readonly number[];
  readonly documents: readonly DocumentLoss[];
}

/** One model. */
export interface ModelStudy {
  readonly name: string;
  readonly group: 'study' | 'milder' | 'reference';
  readonly experts: number;
  readonly topK: number;
  readonly layers: number;
  /** `dropless` first. */
  readonly settings: readonly StudiedSetting[];
  readonly byDevices: readonly {
    readonly devices: number;
    readonly gamma: number;
    readonly speedUp: number;
  }[];
  /** Mean score by rank. */
  readonly sortedScores: readonly number[];
}

/** What was measured. */
export interface StudyPlan {
  readonly gammas: readonly number[];
  readonly keys: readonly string[];
  readonly tokens: number;
  readonly devices: number;
}

/** Models of one kind as one: differences of documents are means over the models. */
export interface StudyGroup {
  readonly title: string;
  readonly models: readonly ModelStudy[];
  /** Mean over models; undefined when it was not measured. */
  find(name: string): StudiedSetting | undefined;
  /** Loss under `right` less that under `left`, paired by document. */
  between(left: string, right: string): DifferenceInterval | undefined;
}

const titles = {
  study: '`study` as it is (balance loss 0.0001)',
  milder: '`study`, balance loss 0.001',
  reference: '`reference`',
} as const;

/** Groups of models that were measured. */
export function groupModels(studies: readonly ModelStudy[]): StudyGroup[] {
  const groups: StudyGroup[] = [];
  for (const kind of ['study', 'milder', 'reference'] as const) {
    const models = studies.filter(({ group }) => group === kind);
    const [first] = models;
    if (first === undefined) continue;
    const { layers, experts, topK } = first;
    const count = models.length === 1 ? '1 model' : `mean of ${models.length} seeds`;
    const title = `${titles[kind]}: ${layers} layers, ${experts} experts, ${topK} chosen (${count})`;
    groups.push({
      title,
      models,
      find: (name) => meanSetting(models, name),
      between: (left, right) => {
        const [low, high] = [meanSetting(models, left), meanSetting(models, right)];
        return low === undefined || high === undefined
          ? undefined
          : differenceInLoss(low.documents, high.documents);
      },
    });
  }
  return groups;
}

/** Share in percent. */
export function percent(share: number | null | undefined): string {
  return `${(100 * (share ?? NaN)).toFixed(1)} %`;
}

/** `+12.3 [10.1, 14.0]` in thousandths of a nat. */
export function withInterval(value: Pick<DifferenceInterval, 'difference' | 'interval'> | undefined): string {
  if (value === undefined) return '–';
  const [low, high] = value.interval ?? [NaN, NaN];
  return `${thousandths(value.difference)} [${thousandths(low)}, ${thousandths(high)}]`;
}

function thousandths(nats: number): string {
  const value = 1000 * nats;
  return `${value < 0 ? '−' : ''}${Math.abs(value).toFixed(1)}`;
}

function meanSetting(models: readonly ModelStudy[], name: string): StudiedSetting | undefined {
  const pick = (wanted: string): StudiedSetting[] =>
    models.flatMap(({ settings }) => settings.find((setting) => setting.name === wanted) ?? []);
  const [found, dropless] = [pick(name), pick('dropless')];
  const [first] = found;
  if (first === undefined || found.length !== models.length) return undefined;
  const mean = (of: (setting: StudiedSetting) => number): number =>
    found.reduce((sum, setting) => sum + of(setting), 0) / found.length;
  const documents = meanDocuments(found);
  const { difference, interval } = differenceInLoss(meanDocuments(dropless), documents);
  return {
    ...first,
    loss: mean(({ loss }) => loss),
    difference,
    interval,
    documents,
    dropRatio: mean(({ dropRatio }) => dropRatio),
    addedRatio: mean(({ addedRatio }) => addedRatio),
    orphanRatio: mean(({ orphanRatio }) => orphanRatio),
    peak: mean(({ peak }) => peak),
    speedUp: mean(({ speedUp }) => speedUp ?? NaN),
    utilisation: first.utilisation === null ? null : mean(({ utilisation }) => utilisation ?? NaN),
  };
}

function meanDocuments(settings: readonly StudiedSetting[]): DocumentLoss[] {
  return (settings[0]?.documents ?? []).map(({ tokens }, at) => ({
    tokens,
    loss: settings.reduce((sum, { documents }) => sum + (documents[at]?.loss ?? NaN), 0) / settings.length,
  }));
}
