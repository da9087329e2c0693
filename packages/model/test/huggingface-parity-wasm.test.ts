import { describeParity } from './describe-parity.ts';
import { prepareEngine } from './prepare-engine.ts';

describeParity(await prepareEngine('wasm'));
