/** @file `--layers 0,2-5` and `--layers every:2`: which layers of a model are meant. */
import { InvalidArgumentError } from 'commander';

/** Layers by number, or every n-th. */
export type LayerChoice = { readonly list: readonly number[] } | { readonly every: number };

/** Most layers that a range may name. */
const mostLayers = 4096;

/** Reads a choice of layers. */
export function layerChoice(text: string): LayerChoice {
  const every = /^every:(\d+)$/.exec(text)?.[1];
  if (every !== undefined && Number(every) >= 1) return { every: Number(every) };
  const list = text.split(',').flatMap((entry) => {
    const [, first, last = first] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(entry) ?? [];
    const [from, to] = [Number(first), Number(last)];
    if (first === undefined || to < from || to >= mostLayers) throw wrong();
    return Array.from({ length: to - from + 1 }, (_, at) => from + at);
  });
  return { list };
}

function wrong(): InvalidArgumentError {
  return new InvalidArgumentError('Must be layers from 0, as in 0,2-5, or every:2 for each second one.');
}

/** The layers meant: with `every:n`, those whose number from 1 is divisible by n. */
export function layersOf(choice: LayerChoice | undefined, layers: number): readonly number[] | undefined {
  if (choice === undefined) return undefined;
  if ('list' in choice) return choice.list;
  return Array.from({ length: layers }, (_, layer) => layer).filter(
    (layer) => (layer + 1) % choice.every === 0,
  );
}
