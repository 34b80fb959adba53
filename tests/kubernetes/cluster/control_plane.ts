/** etcd, API server, controller manager and scheduler, in the cluster's own network. @module */
import { kubeconfig, pki } from "./certificates.ts";
import type { Namespaces } from "./namespaces.ts";
import { API_ADDRESS, API_PORT, both, type ClusterOptions, NETWORK } from "./options.ts";
import { ok, run, waitFor } from "./process.ts";

const ETCD = "http://127.0.0.1:2379";
const API_SERVER_SECONDS_MAX = 180;

/** Every request with who asked and what became of it, without bodies. */
const AUDIT_POLICY = {
  apiVersion: "audit.k8s.io/v1",
  kind: "Policy",
  omitStages: ["RequestReceived"],
  rules: [{ level: "Metadata" }],
};

/** Starts the control plane and waits until its API server is ready. */
export async function startControlPlane(
  namespaces: Namespaces,
  directory: string,
  options: ClusterOptions,
): Promise<void> {
  const { ipv4, ipv6 } = NETWORK.underlay;
  const addresses = [`${ipv4}.1/24`, ...options.dualStack ? [`${ipv6}1/64`] : []];
  for (const address of addresses) {
    await ok(
      namespaces.words([
        "ip",
        "addr",
        "add",
        address,
        "dev",
        "br0",
        ...address.includes(":") ? ["nodad"] : [],
      ]),
    );
  }
  if (options.audit) await Deno.writeTextFile(`${directory}/audit-policy.json`, JSON.stringify(AUDIT_POLICY));
  await startApiServer(namespaces, directory, options);
  await startControllers(namespaces, directory, options);
}

/** Starts controller manager and scheduler, anew where they run: what they know may be older, or newer, than the store. */
export async function startControllers(
  namespaces: Namespaces,
  directory: string,
  options: ClusterOptions,
): Promise<void> {
  for (const name of ["kube-controller-manager", "kube-scheduler"]) await namespaces.end(name, "KILL");
  await namespaces.start("kube-controller-manager", [
    "kube",
    "kube-controller-manager",
    ...controllerFlags(directory, options),
  ]);
  const config = kubeconfig(directory, "kube-scheduler");
  await namespaces.start("kube-scheduler", [
    "kube",
    "kube-scheduler",
    ...asking(config),
    "--leader-elect=false",
  ]);
}

/** Starts etcd and the API server, and waits until it is ready. */
export async function startApiServer(
  namespaces: Namespaces,
  directory: string,
  options: ClusterOptions,
): Promise<void> {
  const etcd = await namespaces.start("etcd", [
    ...["etcd", "--data-dir", `${directory}/etcd/data`],
    ...["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD],
    ...["--listen-peer-urls", "http://127.0.0.1:2380"],
  ]);
  const apiServer = await namespaces.start("kube-apiserver", [
    "kube",
    "kube-apiserver",
    ...apiServerFlags(directory, options),
  ]);
  await waitFor("the API server to be ready", async () => {
    const ready = ["kubectl", "--kubeconfig", kubeconfig(directory, "admin"), "get", "--raw", "/readyz"];
    return (await run(namespaces.words(ready), { seconds: 20 })).out === "ok";
  }, {
    seconds: API_SERVER_SECONDS_MAX,
    inVain: () => namespaces.inVain(etcd, apiServer),
  });
}

/** Ends the API server, then etcd: nobody is asked any more, and the store is whole. */
export async function stopApiServer(namespaces: Namespaces): Promise<void> {
  // It would wait for its watches to end.
  await namespaces.end("kube-apiserver", "KILL");
  await namespaces.end("etcd");
}

/** Keeps etcd's store as it is, while nothing of it runs. */
export async function keepStore(namespaces: Namespaces, directory: string): Promise<void> {
  const [store, kept] = [`${directory}/etcd/data`, `${directory}/etcd/kept`];
  await ok(namespaces.words(["sh", "-ec", 'rm -rf "$2"; cp -a "$1" "$2"', "keep", store, kept]));
}

/** Puts the store back that was kept, while nothing of it runs. */
export async function restoreStore(namespaces: Namespaces, directory: string): Promise<void> {
  const [store, kept] = [`${directory}/etcd/data`, `${directory}/etcd/kept`];
  await ok(
    namespaces.words(["sh", "-ec", 'test -d "$2"; rm -rf "$1"; cp -a "$2" "$1"', "restore", store, kept]),
  );
}

function apiServerFlags(directory: string, { audit, dualStack }: ClusterOptions): string[] {
  const keys = pki(directory);
  return [
    `--etcd-servers=${ETCD}`,
    `--secure-port=${API_PORT}`,
    `--advertise-address=${API_ADDRESS}`,
    `--tls-cert-file=${keys}/apiserver.crt`,
    `--tls-private-key-file=${keys}/apiserver.key`,
    `--client-ca-file=${keys}/ca.crt`,
    `--token-auth-file=${keys}/tokens.csv`,
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    "--allow-privileged=true",
    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    `--service-account-key-file=${keys}/service-accounts.pub`,
    `--service-account-signing-key-file=${keys}/service-accounts.key`,
    `--kubelet-client-certificate=${keys}/kubelet-client.crt`,
    `--kubelet-client-key=${keys}/kubelet-client.key`,
    "--kubelet-preferred-address-types=InternalIP",
    `--service-cluster-ip-range=${both(NETWORK.services, dualStack)}`,
    // Aggregated API servers are asked at their pods' addresses: no kube-proxy runs beside the API server.
    "--enable-aggregator-routing=true",
    `--requestheader-client-ca-file=${keys}/ca.crt`,
    "--requestheader-allowed-names=front-proxy-client",
    "--requestheader-username-headers=X-Remote-User",
    "--requestheader-group-headers=X-Remote-Group",
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    `--proxy-client-cert-file=${keys}/front-proxy.crt`,
    `--proxy-client-key-file=${keys}/front-proxy.key`,
    ...audit
      ? [`--audit-policy-file=${directory}/audit-policy.json`, `--audit-log-path=${directory}/logs/audit.log`]
      : [],
  ];
}

function controllerFlags(directory: string, { dualStack }: ClusterOptions): string[] {
  const keys = pki(directory);
  return [
    ...asking(kubeconfig(directory, "kube-controller-manager")),
    "--leader-elect=false",
    "--use-service-account-credentials=true",
    `--root-ca-file=${keys}/ca.crt`,
    `--service-account-private-key-file=${keys}/service-accounts.key`,
    `--cluster-signing-cert-file=${keys}/ca.crt`,
    `--cluster-signing-key-file=${keys}/ca.key`,
    "--allocate-node-cidrs=true",
    `--cluster-cidr=${both(NETWORK.pods, dualStack)}`,
    `--service-cluster-ip-range=${both(NETWORK.services, dualStack)}`,
  ];
}

/** How a component asks the API server, also about those who ask it. */
function asking(config: string): string[] {
  return ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"].map((flag) =>
    `--${flag}=${config}`
  );
}
