/**
 * @file Picks the store of the active engine.
 */
import { engine } from '@tensorflow/tfjs';

import { createHostKvStore } from './host-kv-store.ts';
import { createNativeKvStore } from './native-kv-store.ts';
import type { KvStore, KvStoreSizes } from './kv-store.ts';

/** An empty store of the active engine. */
export function createKvStore(sizes: KvStoreSizes): KvStore {
  return engine().backendName === 'tensorflow' ? createNativeKvStore(sizes) : createHostKvStore(sizes);
}
