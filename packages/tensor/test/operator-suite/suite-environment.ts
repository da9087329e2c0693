/** @file Tells TensorFlow.js's test helpers which backend is under test. Must run before its tests are imported. */
import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util';

const { moebiusTestBackend: backendName = '' } = globalThis as { moebiusTestBackend?: string };
setTestEnvs([{ name: `test-${backendName}`, backendName, flags: {}, isDataSync: true }]);
