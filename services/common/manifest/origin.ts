/** Where an object came from, as its `file` says. @module */

/** First word of the `file` of every object that came from Kubernetes, which tells it again. */
export const KUBERNETES_FILE_MARK = "kubernetes:";
