/** Annotations of objects that say something to us. @module */

/** The mode of a policy: `enforce`, which is the default, or `audit`. */
export const POLICY_MODE_ANNOTATION = "weir.dev/mode";
