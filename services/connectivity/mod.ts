/** @weir/connectivity: the scenarios of `weir connectivity test`, see README.md. @module */
export { junitText } from "./junit.ts";
export { HostTarget } from "./host_target.ts";
export { KubernetesTarget } from "./kubernetes/kubernetes_target.ts";
export { holdRun } from "./kubernetes/run_lease.ts";
export { LabTarget } from "./lab_target.ts";
export { allScenarios, lacking, LANES_MAX, type RunOptions, runScenarios } from "./run.ts";
export type { FlowValidation, Pair, ScenarioResult } from "./scenario_run.ts";
export { type ClusterAccess, type Target, TargetError } from "./target.ts";
