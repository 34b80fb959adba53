/** The operator's part: what Weir knows, as objects at the API server. See operator.ts. @module */
export { customResources } from "./crds/mod.ts";
export type { FeedTargets } from "./feeds.ts";
export { Operator, type OperatorOptions } from "./operator.ts";
export { NOT_READY_TAINT } from "./readiness_part.ts";
export { LEASE_NAME, operatorRights, type PolicyRule, type Right, rulesOf } from "./rights.ts";
export { ownsIngress } from "./ingress_owner.ts";
export { FIELD_MANAGER, MANAGED_BY, WEIR } from "./field_manager.ts";
export type { OnWrite } from "./writer.ts";
