/** The conformance suite of network-policy-api: its program, the definition of its kind, and the image of its pods. @module */
import { type Cache, isUpToDate, SOURCES } from "../cluster/layout.ts";
import { ok } from "../cluster/process.ts";
import { writeImage } from "./archive.ts";
import { debian, PATH } from "./images.ts";
import { buildPrograms, findGo, POLICY_API } from "./programs.ts";

/** As the suite's manifests name it. */
const IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.45";

/** A server of SCTP ends at once where the kernel has none, and its pod would never be ready: there it rests. */
const AGNHOST = `#!/bin/sh
if [ "$1" = porter ] && ! grep -q '^SCTP ' /proc/net/protocols; then exec /agnhost-program pause; fi
exec /agnhost-program "$@"
`;

/** Paths of what a run of the suite needs. */
export function policyApiParts(cache: Cache): { program: string; image: string; definition: string } {
  return {
    program: `${cache.bin}/policy-api.test`,
    image: `${cache.images}/policy-api.tar`,
    definition: `${cache.directory}/policy-api.yaml`,
  };
}

/** Makes what is not there. The cluster's own parts have to be. */
export async function makePolicyApi(cache: Cache, say: (text: string) => void): Promise<void> {
  await buildPrograms(POLICY_API, cache, say);
  const { program, image, definition } = policyApiParts(cache);
  if (!isUpToDate(definition, [program])) {
    const module = ["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/network-policy-api"];
    const directory = `${SOURCES}/modules/policy-api`;
    const source = (await ok([await findGo(cache, say), ...module], { directory })).trim();
    const file = "policy.networking.k8s.io_clusternetworkpolicies.yaml";
    await Deno.writeFile(definition, await Deno.readFile(`${source}/config/crd/experimental/${file}`));
  }
  const agnhost = `${cache.bin}/agnhost`, below = await debian(cache);
  if (isUpToDate(image, [agnhost, below])) return;
  say(`image ${IMAGE}`);
  const folder = await Deno.makeTempDir({ prefix: "weir-policy-api-" });
  try {
    await Deno.copyFile(agnhost, `${folder}/agnhost-program`);
    await Deno.writeTextFile(`${folder}/agnhost`, AGNHOST, { mode: 0o755 });
    await Deno.chmod(folder, 0o755);
    const config = { Entrypoint: ["/agnhost"], Cmd: ["pause"], Env: [PATH] };
    await writeImage({ name: IMAGE, config, layers: [below, folder] }, image);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
