export { cosine, cosineRouter } from './cosine-router.js';
export { gateEntropy } from './gate-entropy.js';
export { gateReport } from './gate-report.js';
