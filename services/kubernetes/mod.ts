/** @weir/kubernetes, see README.md. @module */
export * from "./api/mod.ts";
export { KubernetesService, type KubernetesServiceOptions } from "./kubernetes_service.ts";
export { createKubernetesService } from "./routes.ts";
