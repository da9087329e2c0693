/**
 * @file What routers keep beside trained tensors: host arrays by layer, moved after each training step by the routers'
 * own rule, saved with a model and with a run.
 */
import { MoebiusError } from '@moebius/core';
import type { StateReader, StateTensor, StateWriter, Task } from '@moebius/core';
import { advanceRouter } from '@moebius/routing';
import type { Router, RouterBuffers } from '@moebius/routing';

import type { ModelConfig } from './config.ts';
import { describeBuffers, type ParameterDescription } from './describe-parameters.ts';
import type { ModelParts } from './model-parts.ts';

/** Pairs of every expert of a layer in one step. */
export interface LayerLoad {
  /** Layer index. */
  readonly layer: number;
  /** `[E]` */
  readonly load: ArrayLike<number>;
  /** Tokens that were not masked. Absent: not known. */
  readonly tokens?: number;
}

/** The buffers of a model's routers. */
export interface RouterState {
  /** Whether any router has buffers. */
  readonly isEmpty: boolean;
  /** Float32Arrays of one layer's router by name; borrowed, replaced as a whole. */
  buffers(layer: number): RouterBuffers;
  /** Every buffer by its name in a file. */
  list(): readonly { readonly description: ParameterDescription; readonly values: Float32Array }[];
  /**
   * Lets every router move its buffers after a step; a layer without a load is left alone.
   *
   * @param loads - of the whole step
   * @param step - steps done, this one included
   * @throws `plugin` naming router and layer
   */
  advance(loads: readonly LayerLoad[], step: number): void;
  /** Writes one unit for each layer that has buffers, `layers.3.router`. The writer has been begun. */
  exportTo(writer: StateWriter): Task<void>;
  /** Reads what {@link RouterState.exportTo} wrote. Throws `checkpoint` on another shape. */
  importFrom(reader: StateReader): Task<void>;
}

/**
 * Makes the buffers of a model's routers.
 *
 * @param config - the model
 * @param parts - its routers
 * @param initial - values by name in a file; others begin as the router says, or with 0
 */
export function createRouterState(
  config: ModelConfig,
  parts: ModelParts,
  initial: { readonly [id: string]: Float32Array } = {},
): RouterState {
  const descriptions = describeBuffers(config, parts);
  const layers: (RouterBuffers | undefined)[] = parts.routers.map((router, layer) =>
    router === null ? undefined : firstBuffers(router, { descriptions, layer, initial }),
  );
  const versions = parts.routers.map(() => 0);
  const none: RouterBuffers = {};
  const buffers = (layer: number): RouterBuffers => layers[layer] ?? none;
  const valuesOf = (description: ParameterDescription): Float32Array =>
    buffers(layerOf(description))[nameOf(description)] ?? new Float32Array(0);
  return {
    isEmpty: descriptions.length === 0,
    buffers,
    list: () => descriptions.map((description) => ({ description, values: valuesOf(description) })),
    advance(loads, step) {
      for (const { layer, load, tokens } of loads) {
        const router = parts.routers[layer];
        if (router?.advance === undefined) continue;
        const seen = {
          load: Float64Array.from(load),
          layer,
          step,
          ...(tokens === undefined ? {} : { tokens }),
        };
        layers[layer] = advanceRouter(router, buffers(layer), seen);
        versions[layer] = (versions[layer] ?? 0) + 1;
      }
    },
    *exportTo(writer) {
      for (const unit of new Set(descriptions.map((description) => description.unit))) {
        const own = descriptions.filter((description) => description.unit === unit);
        const tensors: { [name: string]: StateTensor } = {};
        for (const description of own) {
          const bytes = new Uint8Array(valuesOf(description).slice().buffer);
          tensors[description.id] = { dtype: 'F32', shape: description.shape, bytes };
        }
        const version = versions[own[0] === undefined ? 0 : layerOf(own[0])] ?? 0;
        yield* writer.put({ id: unit, version, tensors });
      }
    },
    *importFrom(reader) {
      for (const unit of new Set(descriptions.map((description) => description.unit))) {
        const { tensors, version } = yield* reader.read(unit);
        for (const description of descriptions) {
          if (description.unit !== unit) continue;
          const layer = layerOf(description);
          const values = readValues(description, tensors[description.id]);
          layers[layer] = { ...layers[layer], [nameOf(description)]: values };
          versions[layer] = version;
        }
      }
    },
  };
}

function firstBuffers(
  router: Router,
  scope: {
    readonly descriptions: readonly ParameterDescription[];
    readonly layer: number;
    readonly initial: { readonly [id: string]: Float32Array };
  },
): RouterBuffers {
  const { descriptions, layer, initial } = scope;
  const own = descriptions.filter(({ unit }) => unit === `layers.${layer}.router`);
  const entries = own.map((description) => {
    const length = description.shape.reduce((size, axis) => size * axis, 1);
    const name = nameOf(description);
    const values =
      initial[description.id] ?? router.initialiseBuffer?.(name, length) ?? new Float32Array(length);
    if (values instanceof Float32Array && values.length === length) return [name, values] as const;
    throw new MoebiusError({
      code: 'plugin',
      message: `layers[${layer}] router "${router.name}" initialiseBuffer: ${name} must be a Float32Array of ${length}, got ${values instanceof Float32Array ? `one of ${values.length}` : typeof values} (mend the plug-in)`,
      details: { layer, router: router.name, buffer: name, length },
    });
  });
  return Object.fromEntries(entries);
}

function layerOf({ unit }: ParameterDescription): number {
  return Number(unit.split('.')[1]);
}

/** The router's own name of a buffer: what follows the last dot of its name in a file. */
function nameOf({ id }: ParameterDescription): string {
  return id.slice(id.lastIndexOf('.') + 1);
}

function readValues({ id, shape }: ParameterDescription, found: StateTensor | undefined): Float32Array {
  const form = found === undefined ? 'nothing' : `${found.dtype} [${found.shape.join(', ')}]`;
  if (found !== undefined && form === `F32 [${shape.join(', ')}]`) {
    return new Float32Array(found.bytes.slice().buffer);
  }
  throw new MoebiusError({
    code: 'checkpoint',
    message: `router buffer ${id}: must be F32 [${shape.join(', ')}], got ${form}`,
    details: { id, shape, got: form },
  });
}
