/** @weir/report: explains what the verifier found, in the names of the source. See README.md. @module */
export { type Budget, budgetOf, KERNEL_VISITS_MAX, type LineCost } from "./budget.ts";
export { type Entry, entryOf, entryOfFailure, entryOfObjectError } from "./entry.ts";
export { explain, type Explanation, type LostPlace, type PathPlace, type Place } from "./explanation.ts";
export { type Format, FORMATS, renderEntries, renderExplanation } from "./format.ts";
export { compareReleases, featureOf, helperName, isRelease } from "./kernel_versions.ts";
export { codeName, type Page, pageNumbers, pageOf, parseCode, renderPage } from "./pages.ts";
export { NO_PROGRAM, OBJECT_CODES, UNREADABLE_FILE, VERIFIER_FAILED } from "./pages_object.ts";
export { missingIn, type Requirement } from "./requirement.ts";
export { toSarif } from "./sarif.ts";
export { sentenceOf } from "./sentence.ts";
export { type Verifier, verifierOf, verifyObject, type VerifyObjectOptions } from "./verify_object.ts";
