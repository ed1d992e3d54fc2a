"""Targets in a Kubernetes cluster: weights of an ``HTTPRoute``, canaries of KServe.

In: committed rollout records. Out: merge patches of one object a model, and what its status says is served.
State: none here; an annotation of the object says which record it follows and what we wrote.
Invariant: an object is changed only as it was read (``resourceVersion``); what others changed is reported and left.
Read `objects` (the way of every such target), `gateway_api`, then `kserve` with `knative` and `standard`; `cluster` is
the API, `models` says where a version's files lie.
"""
