/** The engine with its routes. @module */
import { PolicyEngine, type PolicyEngineOptions } from "./policy_engine.ts";
import { mountRoutes } from "./routes.ts";

/** Builds the engine; nothing runs before `start()`. */
export function createPolicyEngine(options: PolicyEngineOptions): PolicyEngine {
  const engine = new PolicyEngine(options);
  mountRoutes(engine);
  return engine;
}
