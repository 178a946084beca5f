"""Two nodes of a cluster, of which the first is its head: `python ray_nodes.py PORT`; PORT 0 is any. They end with its input.

Writes the address of the cluster, and for each line that it reads the ids of all processes of the head.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

from ray.cluster_utils import Cluster

SIZE = {"num_cpus": 4, "object_store_memory": 100 * 2**20}


def family(pids):
    """These processes and their children."""
    found = list(pids)
    for pid in found:
        with suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found


def main(port):
    # The actor of the store is where the test says, and the application where there is a "tail".
    head = {**SIZE, "include_dashboard": False, "resources": {"head": 10}, **({"gcs_server_port": port} if port else {})}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(**SIZE, resources={"tail": 10})
    print(json.dumps(cluster.address), flush=True)
    for _ in sys.stdin:
        roots = [each.process.pid for kind in cluster.head_node.all_processes.values() for each in kind]
        print(json.dumps(family(roots)), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
