import { packageBuild } from '../../tooling/tsup/package-build.ts';

export default packageBuild({ entries: { index: 'src/index.ts', 'surgery/index': 'src/surgery/index.ts' } });
