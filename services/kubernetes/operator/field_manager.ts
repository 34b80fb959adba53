/** Names under which the operator writes. @module */

/** Name that the fields which the operator writes have. */
export const FIELD_MANAGER = "weir-operator";
/** Label of what Weir made, and its value: what does not have it is somebody else's. */
export const MANAGED_BY = "app.kubernetes.io/managed-by";
/** See {@link MANAGED_BY}. */
export const WEIR = "weir";
