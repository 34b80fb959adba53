/**
 * Lint plugin: who may import whom (ARCHITECTURE.md). A package that is not named here may import nothing of ours.
 * Its test beside it runs it over the tree; `deno lint` does not, for Deno 2.9.6 with a plugin ends in a segmentation
 * fault now and then, on one thread as on several.
 * @module
 */

const SHARED = ["@weir/proto", "@weir/common", "@weir/client"];

/** Folder of a package -> the packages it may import beside itself. */
export const MAY_IMPORT: Record<string, readonly string[]> = {
  "proto": [],
  "services/common": ["@weir/proto"],
  "services/client": ["@weir/proto", "@weir/common"],
  "services/grpc": ["@weir/proto", "@weir/common"],
  "services/certificate-authority": SHARED,
  "services/identity-allocator": SHARED,
  // What the rules of a manifest are checked and explained with.
  "services/policy-engine": [...SHARED, "@weir/l7-rules"],
  "services/load-balancer": SHARED,
  "services/kubernetes": SHARED,
  // Which selector means a name.
  "services/endpoint-manager": [...SHARED, "@weir/l7-rules"],
  "services/flow-filter": ["@weir/proto", "@weir/common"],
  "services/l7-rules": ["@weir/proto"],
  "services/flow-exporter": [...SHARED, "@weir/grpc", "@weir/flow-filter"],
  // Of the policy engine what judges recorded connections.
  "services/flow-history": [...SHARED, "@weir/grpc", "@weir/flow-filter", "@weir/policy-engine"],
  "services/relay": [...SHARED, "@weir/grpc"],
  "services/l7-proxy": [...SHARED, "@weir/l7-rules"],
  // And what explains by policies that the caller brings.
  "services/ui": [...SHARED, "@weir/grpc", "@weir/flow-filter", "@weir/policy-engine"],
  // Of the flow exporter and the web page the words of options, to refuse a wrong one before anything starts.
  "services/agent": [...SHARED, "@weir/flow-exporter", "@weir/ui"],
  "services/lab": SHARED,
  // Of the service the client of the API server: pods of a cluster.
  "services/connectivity": [...SHARED, "@weir/kubernetes"],
  // Of the agent the text of its options, for help.
  // And the server of the web page, which `weir ui` runs itself.
  "services/cli": [
    ...SHARED,
    "@weir/agent",
    // Of its service the client of the API server: weir install.
    "@weir/kubernetes",
    "@weir/grpc",
    "@weir/flow-filter",
    // What explains by policies that the caller brings: no service is asked.
    "@weir/policy-engine",
    "@weir/ui",
    "@weir/connectivity",
    "@weir/object",
    "@weir/verifier",
    "@weir/report",
  ],
  "datapath/verifier": [],
  "datapath/object": ["@weir/verifier"],
  "datapath/report": ["@weir/object", "@weir/verifier"],
  "datapath/sandbox": ["@weir/verifier"],
  "datapath/maps": ["@weir/object"],
  "datapath/net": [],
  "datapath/loader": ["@weir/sandbox", "@weir/object", "@weir/verifier"],
  "datapath/service": [
    "@weir/proto",
    "@weir/common",
    "@weir/loader",
    "@weir/maps",
    "@weir/net",
    "@weir/object",
    "@weir/sandbox",
    "@weir/verifier",
  ],
};

/** Only these open shared libraries. */
const FFI = ["datapath/loader", "datapath/net", "datapath/sandbox"];

function packageOf(file: string): string | undefined {
  const path = file.replaceAll("\\", "/");
  return Object.keys(MAY_IMPORT).find((dir) => path.includes(`/${dir}/`));
}

const isTest = (file: string) => /_test\.ts$|\/testing\//.test(file);

/** What is wrong with this import, or undefined. Pure. */
export function importFault(file: string, specifier: string): string | undefined {
  const from = packageOf(file);
  if (from === undefined) return undefined;
  if (specifier.startsWith("@weir/")) {
    const target = specifier.split("/").slice(0, 2).join("/");
    if (MAY_IMPORT[from].includes(target)) return undefined;
    return `${from} may not import ${target}: it may import ${
      MAY_IMPORT[from].join(", ") || "nothing of ours"
    }`;
  }
  if (specifier.startsWith(".")) {
    const root = file.replaceAll("\\", "/").slice(0, file.replaceAll("\\", "/").indexOf(`/${from}/`));
    const target = new URL(specifier, `file://${file}`).pathname;
    if (!target.startsWith(`${root}/${from}/`) && !isTest(file)) {
      return `${from} may not reach outside itself by path: import the package by its name`;
    }
  }
  return undefined;
}

const plugin: Deno.lint.Plugin = {
  name: "weir",
  rules: {
    "import-direction": {
      create(context) {
        const check = (node: { source?: { value: unknown } | null } & Deno.lint.Node) => {
          const specifier = node.source?.value;
          if (typeof specifier !== "string") return;
          const fault = importFault(context.filename, specifier);
          if (fault) context.report({ node, message: fault });
        };
        return {
          ImportDeclaration: check,
          ExportNamedDeclaration: check,
          ExportAllDeclaration: check,
        };
      },
    },
    "ffi-in-its-place": {
      create(context) {
        return {
          MemberExpression(node) {
            if (node.object.type !== "Identifier" || node.object.name !== "Deno") return;
            if (node.property.type !== "Identifier" || node.property.name !== "dlopen") return;
            const from = packageOf(context.filename);
            if (from === undefined || FFI.includes(from)) return;
            context.report({
              node,
              message: `${from} may not open shared libraries: only ${FFI.join(", ")} may`,
            });
          },
        };
      },
    },
  },
};
export default plugin;
