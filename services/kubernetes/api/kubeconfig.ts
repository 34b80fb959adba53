/** A person's kubeconfig: which API server, and as whom. @module */
import { parse as parseYaml } from "yaml";
import { type InputFileLimits, readInputTextSync } from "@weir/common/input-file";
import { ProblemError } from "@weir/common/problem";
import {
  type ApiAccess,
  certificatesOf,
  checkServer,
  FixedToken,
  TokenFile,
  type TokenSource,
} from "./access.ts";
import { type ExecSpec, ExecToken } from "./exec_token.ts";

/** Options of {@link kubeconfigAccess}. */
export interface KubeconfigOptions {
  /** Name of the context; default: the file's current one. */
  context?: string;
  /** Reads a file that the kubeconfig names. */
  readFile?: (path: string) => string;
}

const LIMITS: InputFileLimits = { bytesMax: 4 << 20 };

interface Named {
  name?: unknown;
  [part: string]: unknown;
}

/** Paths of the kubeconfig in the order in which kubectl looks: KUBECONFIG, then ~/.kube/config. */
export function kubeconfigPath(env: (name: string) => string | undefined): string | undefined {
  const named = (env("KUBECONFIG") ?? "").split(":").find((path) => path !== "");
  const home = env("HOME");
  return named ?? (home ? `${home}/.kube/config` : undefined);
}

/**
 * The access that a kubeconfig gives.
 * @param path for messages, and where relative paths in it begin
 * @throws {ProblemError} KUBECONFIG_INVALID, which names the part that is missing or not supported
 */
export function readKubeconfig(text: string, path: string, options: KubeconfigOptions = {}): ApiAccess {
  const invalid = (found: string, action?: string, cause?: unknown) =>
    new ProblemError("KUBECONFIG_INVALID", {
      detail: `Cannot use the kubeconfig ${path}: ${found}`,
      found,
      action,
      cause,
    });
  let document: Record<string, unknown>;
  try {
    document = parseYaml(text) ?? {};
    if (typeof document !== "object" || Array.isArray(document)) throw new Error("it is no mapping");
  } catch (cause) {
    throw invalid(`it cannot be read: ${(cause as Error).message}`, undefined, cause);
  }
  const part = (list: string, name: unknown, key: string): Record<string, unknown> => {
    const all = Array.isArray(document[list]) ? document[list] as Named[] : [];
    const found = all.find((one) => one?.name === name)?.[key];
    if (typeof found === "object" && found !== null) return found as Record<string, unknown>;
    throw invalid(
      `there is no ${key} ${JSON.stringify(name ?? "")}`,
      `It has: ${all.map((one) => one?.name).join(", ") || "none"}`,
    );
  };
  const context = part("contexts", options.context ?? document["current-context"], "context");
  const cluster = part("clusters", context.cluster, "cluster");
  const user = context.user === undefined ? {} : part("users", context.user, "user");
  const readFile = options.readFile ?? ((file) => readInputTextSync(file, LIMITS));
  const resolve = (file: string) =>
    file.startsWith("/") || !path.includes("/") ? file : `${path.slice(0, path.lastIndexOf("/"))}/${file}`;
  /** `NAME-data` in base64, else what is in the file `NAME`. */
  const content = (of: Record<string, unknown>, name: string): string | undefined => {
    const data = of[`${name}-data`], file = of[name];
    try {
      if (typeof data === "string" && data !== "") {
        return new TextDecoder().decode(Uint8Array.from(atob(data.trim()), (char) => char.charCodeAt(0)));
      }
      return typeof file === "string" && file !== "" ? readFile(resolve(file)) : undefined;
    } catch (cause) {
      throw invalid(`its ${name} cannot be read: ${(cause as Error).message}`, undefined, cause);
    }
  };
  if (cluster["insecure-skip-tls-verify"] === true) {
    throw invalid(
      "it says insecure-skip-tls-verify",
      "Give the API server's authority in its place: kubectl config set-cluster NAME --certificate-authority=FILE --embed-certs",
    );
  }
  if (cluster["tls-server-name"] || cluster["proxy-url"]) {
    throw invalid(
      "tls-server-name and proxy-url are not supported",
      "Name the API server by its own address",
    );
  }
  if (user["auth-provider"] !== undefined || user.username !== undefined) {
    throw invalid("its user has an auth-provider or a password", "Use a token, a client certificate or exec");
  }
  const certPem = content(user, "client-certificate"), keyPem = content(user, "client-key");
  if ((certPem === undefined) !== (keyPem === undefined)) {
    throw invalid("its user has a client certificate without a key, or a key without one");
  }
  const token = tokenOf(user, resolve, invalid);
  return {
    server: checkServer(String(cluster.server ?? "")),
    authorities: certificatesOf(content(cluster, "certificate-authority") ?? ""),
    ...(certPem === undefined || keyPem === undefined ? {} : { certificate: { certPem, keyPem } }),
    ...(token === undefined ? {} : { token }),
    ...(typeof context.namespace === "string" ? { namespace: context.namespace } : {}),
  };
}

/**
 * The access that the kubeconfig at a path gives.
 * @throws {ProblemError} KUBECONFIG_INVALID
 */
export function kubeconfigAccess(path: string, options: KubeconfigOptions = {}): ApiAccess {
  let text: string;
  try {
    text = readInputTextSync(path, LIMITS);
  } catch (cause) {
    throw new ProblemError("KUBECONFIG_INVALID", {
      detail: (cause as Error).message,
      action: "Name one: KUBECONFIG=FILE, or --kubeconfig FILE",
      cause,
    });
  }
  return readKubeconfig(text, path, options);
}

function tokenOf(
  user: Record<string, unknown>,
  resolve: (file: string) => string,
  invalid: (found: string) => Error,
): TokenSource | undefined {
  // A file comes first, as kubectl has it: it is the one that is renewed.
  if (typeof user.tokenFile === "string") return new TokenFile(resolve(user.tokenFile));
  if (typeof user.token === "string") return new FixedToken(user.token);
  if (user.exec === undefined) return undefined;
  const { command, args, env, apiVersion } = user.exec as Record<string, unknown>;
  const isGood = typeof command === "string" && typeof apiVersion === "string" &&
    (args === undefined || args === null ||
      Array.isArray(args) && args.every((one) => typeof one === "string")) &&
    (env === undefined || env === null ||
      Array.isArray(env) &&
        env.every((one) => typeof one?.name === "string" && typeof one?.value === "string"));
  if (!isGood) throw invalid("its user's exec has no command or no apiVersion");
  const spec: ExecSpec = {
    command: command.includes("/") ? resolve(command) : command,
    args: (args ?? []) as string[],
    env: Object.fromEntries(
      ((env ?? []) as { name: string; value: string }[]).map((one) => [one.name, one.value]),
    ),
    apiVersion,
  };
  return new ExecToken(spec);
}
