//! Kubernetes objects as JSON, and what is read from them.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Where the ConfigMaps of namespace `default` are.
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Where the Pods of namespace `default` are.
pub const PODS: &str = "/api/v1/namespaces/default/pods";
/// Where the Events of namespace `default` are.
pub const EVENTS: &str = "/api/v1/namespaces/default/events";
/// Where definitions of custom resources are.
pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Where the custom resources of [`definition`] in namespace `default` are.
pub const WIDGETS: &str = "/apis/lab.metastore.io/v1/namespaces/default/widgets";

/// A ConfigMap with one datum.
pub fn config_map(name: &str, datum: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"lab": "metastore"}},
        "data": {"datum": datum},
    })
}

/// A Pod that nobody schedules.
pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "containers": [{"name": "main", "image": "registry.invalid/main:1"}],
            "terminationGracePeriodSeconds": 0,
        },
    })
}

/// An Event about a Pod.
pub fn event(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Lab",
        "message": "something happened",
        "type": "Normal",
    })
}

/// The definition of `widgets.lab.metastore.io`, whose objects may hold anything in `spec`.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.lab.metastore.io"},
        "spec": {
            "group": "lab.metastore.io",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {"spec": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": true,
                    }},
                }},
            }],
        },
    })
}

/// A custom resource of [`definition`].
pub fn widget(name: &str, size: &str) -> Value {
    json!({
        "apiVersion": "lab.metastore.io/v1",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {"size": size},
    })
}

/// An object's name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// An object's or a list's resource version: the revision of the store.
pub fn version(object: &Value) -> Result<u64> {
    object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("no resourceVersion in {object}"))
}

/// A list's items.
pub fn items(list: &Value) -> Result<&Vec<Value>> {
    list["items"]
        .as_array()
        .with_context(|| format!("no items in {list}"))
}

/// A list's token for its next page; empty after the last one.
pub fn next_page(list: &Value) -> &str {
    list["metadata"]["continue"].as_str().unwrap_or_default()
}
