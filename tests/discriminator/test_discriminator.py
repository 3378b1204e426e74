from dataclasses import replace

import pytest
import torch

from discriminator.loss.loss import Scores
from discriminator.loss.margin_ranking import MarginRanking
from graph.batch import Batch, Negatives
from tests.worlds import batch_of, families, lazy_adam, model_of, player_of, site_of


def batch_and_negatives() -> tuple[Batch, Negatives]:
    batch = batch_of(families().train[:6], heads=2)
    generator = torch.Generator().manual_seed(1)
    pool = torch.randint(families().num_entities, (6, 5), generator=generator)
    pick = torch.randint(5, (6, 3), generator=generator)
    return batch, Negatives(pool.gather(1, pick), pool=pool, pick=pick)


def test_scores_are_those_of_the_corrupted_triples():
    batch, negatives = batch_and_negatives()
    player = player_of(model_of(site_of(families())))
    verdict = player.judge(batch, negatives)
    model = player.model
    row = model.entity.weight.detach()[model.entity.row_of_entity]
    relation = model.scorer.relation.detach()[batch.relation]
    for i in range(6):
        assert torch.allclose(
            verdict.positive[i], model.scoring.score(row[batch.head[i]], relation[i], row[batch.tail[i]])
        )
        for j, entity in enumerate(negatives.entity[i]):
            head, tail = (entity, batch.tail[i]) if i < 2 else (batch.head[i], entity)
            expected = model.scoring.score(row[head], relation[i], row[tail])
            assert torch.allclose(verdict.negative[i, j], expected)
    assert verdict.reward.equal(verdict.negative)


def test_reward_has_no_gradient_and_loss_has():
    batch, negatives = batch_and_negatives()
    verdict = player_of(model_of(site_of(families()))).judge(batch, negatives)
    assert verdict.loss.requires_grad
    for value in (verdict.reward, verdict.positive, verdict.negative):
        assert not value.requires_grad


def test_reward_of_the_pool_is_its_score():
    batch, negatives = batch_and_negatives()
    player = player_of(model_of(site_of(families())))
    verdict = player.judge(batch, replace(negatives, reward_pool=True))
    assert negatives.pool is not None
    assert verdict.reward.shape == (6, 5)
    torch.testing.assert_close(verdict.reward, player.score_candidates(batch, negatives.pool))
    assert not verdict.reward.requires_grad
    assert torch.allclose(verdict.loss, player.judge(batch, negatives).loss)


def test_rewarding_the_pool_does_not_change_what_is_learned():
    batch, negatives = batch_and_negatives()
    players = [player_of(model_of(site_of(families()))) for _ in range(2)]
    for player, reward_pool in zip(players, (False, True), strict=True):
        player.learn(player.judge(batch, replace(negatives, reward_pool=reward_pool)))
    torch.testing.assert_close(players[0].model.entity.weight, players[1].model.entity.weight)


def test_draws_are_judged_the_same_when_their_pool_is_rewarded():
    batch = batch_of(families().train[:6], heads=1, chunk_size=3)
    generator = torch.Generator().manual_seed(1)
    pool = torch.randint(families().num_entities, (2, 5), generator=generator)
    pick = torch.randint(5, (6, 3), generator=generator)
    entity = pool.repeat_interleave(3, 0).gather(1, pick)
    learned = []
    for negatives in (Negatives(entity, pool=pool, pick=pick, reward_pool=True), Negatives(entity)):
        player = player_of(model_of(site_of(families())))
        verdict = player.judge(batch, negatives)
        player.learn(verdict)
        learned.append((verdict.loss, verdict.negative, player.model.entity.weight))
    for pooled, own in zip(*learned, strict=True):
        torch.testing.assert_close(pooled, own)


def test_shares_of_the_loss_add_up_to_the_weighted_mean():
    batch, negatives = batch_and_negatives()
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    batch = replace(batch, weight=weight, global_weight=4.0)
    player = player_of(model_of(site_of(families())))
    verdict = player.judge(batch, negatives)
    each = MarginRanking(3.0)(Scores(verdict.positive, verdict.negative))
    assert verdict.loss.item() == pytest.approx(float(each[weight > 0].mean()))
    shares = [
        player.judge(batch.chunks(start, stop), Negatives(negatives.entity[start:stop])).loss.item()
        for start, stop in ((0, 1), (1, 1), (1, 6))
    ]
    assert sum(shares) == pytest.approx(verdict.loss.item())
    assert shares[1] == 0


def test_positives_of_weight_0_are_not_learned_from():
    batch, negatives = batch_and_negatives()
    batch = replace(batch, weight=torch.zeros(6, dtype=torch.float64), global_weight=1.0)
    player = player_of(model_of(site_of(families())), optimizer=lazy_adam)
    before = player.model.entity.weight.detach().clone()
    player.learn(player.judge(batch, negatives))
    assert player.model.entity.weight.equal(before)


def test_masked_negatives_are_not_learned_from():
    batch, negatives = batch_and_negatives()
    player = player_of(model_of(site_of(families())), optimizer=lazy_adam)
    masked = replace(negatives, known=torch.ones(6, 3, dtype=torch.bool))
    before = player.model.entity.weight.detach().clone()
    player.learn(player.judge(batch, masked))
    assert player.model.entity.weight.equal(before)  # a hinge without negatives has no gradient


def test_learning_lowers_the_loss():
    batch, negatives = batch_and_negatives()
    player = player_of(model_of(site_of(families())))
    losses = []
    for _ in range(30):
        verdict = player.judge(batch, negatives)
        losses.append(verdict.loss.item())
        player.learn(verdict)
    assert losses[-1] < 0.5 * losses[0]


def test_a_stage_starts_with_a_fresh_optimizer():
    batch, negatives = batch_and_negatives()
    player = player_of(model_of(site_of(families())))
    player.learn(player.judge(batch, negatives))
    assert player.optimizer.row_state["exp_avg"].any()
    weight = player.model.entity.weight.detach().clone()
    player.start_stage()
    assert not player.optimizer.row_state["exp_avg"].any()
    assert player.model.entity.weight.equal(weight)
