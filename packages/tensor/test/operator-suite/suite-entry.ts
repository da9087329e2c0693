/** @file What is bundled: the suite's environment, told which backend to test, then every test file of tfjs-core. */
import './suite-environment.ts';
// The package ships its compiled tests without declarations for this entry.
import '@tensorflow/tfjs-core/dist/tests';
