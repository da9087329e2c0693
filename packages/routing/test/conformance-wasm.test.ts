import { registerConformance } from './conformance-suite.ts';

registerConformance('wasm');
