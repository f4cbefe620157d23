//! Two pods that talk all the time: ICMP one way, HTTP the other. Every packet is counted.

use crate::node::Node;
use crate::pod::Pod;
use crate::poll::until;

/// Each in a file of its own, written by a process that stays in the pod when the runtime goes.
const PING: &str = "/tmp/ping";
const PAGES: &str = "/tmp/pages";
/// Ends the HTTP side.
const STOP: &str = "/tmp/stop";

/// Traffic between two pods.
pub(crate) struct Traffic {
    first: Pod,
    second: Pod,
}

impl Traffic {
    /// Runs both pods and starts their traffic.
    pub(crate) async fn start(node: &Node) -> Self {
        let first = node.run_pod("first", 18081).await;
        let second = node.run_pod("second", 18082).await;
        assert_eq!(node.page_between(&second, &first).await, "first\n");
        let ping = format!("/bin/busybox ping -i 0.05 {} >{PING} 2>&1 &", second.ip);
        let page = format!("/bin/busybox wget -q -O - http://{}/", first.ip);
        let pages = format!(
            "while ! [ -e {STOP} ]; do
               if [ \"$({page})\" = first ]; then echo got; else echo lost; fi
               /bin/busybox sleep 0.05
             done >{PAGES} 2>&1 &"
        );
        node.shell(&first, &ping).await;
        node.shell(&second, &pages).await;
        let traffic = Self { first, second };
        traffic.until_talked(node, 0, 0).await;
        traffic
    }

    /// Either pod, to be talked to by others.
    pub(crate) const fn pods(&self) -> [&Pod; 2] {
        [&self.first, &self.second]
    }

    /// Waits for more traffic, checks that nothing was ever lost, and removes both pods.
    pub(crate) async fn finish(self, node: &Node) {
        let pings = lines(node, &self.first, PING).await.len();
        let pages = lines(node, &self.second, PAGES).await.len();
        self.until_talked(node, pings, pages).await;
        node.shell(&self.second, &format!(">{STOP}")).await;

        let pings = lines(node, &self.first, PING).await;
        let numbers = pings.iter().filter_map(|line| line.split_once("seq="));
        let numbers: Vec<usize> = numbers
            .map(|(_, rest)| rest.split(' ').next().unwrap().parse().unwrap())
            .collect();
        let sent = 0..=numbers[numbers.len() - 1];
        let lost: Vec<usize> = sent.filter(|number| !numbers.contains(number)).collect();
        assert!(lost.is_empty(), "of {} packets: {lost:?}", numbers.len());
        let pages = lines(node, &self.second, PAGES).await;
        let lost: Vec<&String> = pages.iter().filter(|line| *line != "got").collect();
        assert!(lost.is_empty(), "of {} pages: {lost:#?}", pages.len());
        for pod in [self.first, self.second] {
            node.remove_pod(pod).await;
        }
    }

    /// Waits for more lines than these.
    async fn until_talked(&self, node: &Node, pings: usize, pages: usize) {
        for (pod, log, before) in [(&self.first, PING, pings), (&self.second, PAGES, pages)] {
            until("two pods to go on talking", async || {
                let lines = lines(node, pod, log).await;
                // The first line of ping is a heading.
                if lines.len() > before + 1 {
                    Ok(())
                } else {
                    Err(format!("{log}: {lines:?}"))
                }
            })
            .await;
        }
    }
}

/// The whole lines of a file in a pod.
async fn lines(node: &Node, pod: &Pod, file: &str) -> Vec<String> {
    let text = node.shell(pod, &format!("/bin/busybox cat {file}")).await;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(str::to_owned).collect()
}
